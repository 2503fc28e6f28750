"""Labelled images: formats, decoding, augmentation, and batches."""

from minialex.data.dataset import Dataset, Splits, subset
from minialex.data.sources.open import open_data

__all__ = ["Dataset", "Splits", "open_data", "subset"]
