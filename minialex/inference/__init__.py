"""Trained networks: prediction, evaluation, ensembles, nearest images, first-layer filters."""
