"""Augmentation: what is drawn for each image, and how it is applied to its bytes."""
