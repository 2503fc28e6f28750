"""Trained networks: load, predict, evaluate, ensembles, neighbours and first-layer filters."""
