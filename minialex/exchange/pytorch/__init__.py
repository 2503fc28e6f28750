"""PyTorch: files of `torch.save` in (`file`, `pickle_reader`) and out (`writer`, `module`).

`state_keys` orders the keys of a state dict, `state_dict` makes a network of it, and `torchvision`
recognises torchvision's own.
"""
