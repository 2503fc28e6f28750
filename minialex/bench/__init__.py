"""How fast it is: `minialex bench`, beside what PyTorch gets on the same machine."""
