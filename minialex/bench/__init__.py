"""`minialex bench`: how fast training, inference and data loading are, compared with PyTorch."""
