"""Augmentation: the random draws for each image, and applying them to its pixels."""
