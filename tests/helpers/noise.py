"""A data set of a few random images, for runs whose images do not matter."""

from dataclasses import dataclass

import numpy as np

from minialex.data.dataset import Dataset


@dataclass(frozen=True)
class Noise(Dataset):
    """`count` images of three classes."""

    count: int = 6
    name: str = "noise"
    layout: str = "in memory"
    class_ids: tuple = ("a", "b", "c")
    class_names: tuple = ("a", "b", "c")
    native_size: int | None = None

    @property
    def labels(self):
        return np.arange(self.count) % len(self.class_ids)

    def __len__(self):
        return self.count

    def image(self, index, size):
        return np.random.default_rng(index).integers(0, 256, (size, size, 3), np.uint8)

    def describe(self, index):
        return f"noise {index}"
