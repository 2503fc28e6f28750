"""PyTorch: reads (`file`, `pickle_reader`) and writes (`writer`, `module`) `torch.save` files.

`state_keys` orders the keys of a state dict, `state_dict` turns it into a network, and
`torchvision` recognises torchvision's networks.
"""
