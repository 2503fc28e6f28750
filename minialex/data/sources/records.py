"""Images of one size stored as planes of red, green and blue: CIFAR's and cuda-convnet's files."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from minialex.data.dataset import Dataset
from minialex.data.decode import images
from minialex.errors import InputError


@dataclass(frozen=True, repr=False)
class PlanarImages(Dataset):
    """The images of one or more files, in memory or memory-mapped."""

    paths: tuple[Path, ...]
    planes: tuple[np.ndarray, ...]  # uint8 (n, 3, S, S) for each file
    labels: np.ndarray  # int64 (N,)
    class_ids: tuple[str, ...]
    layout: str
    name: str
    record_name: str = "image"  # for messages

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.class_ids

    @property
    def native_size(self) -> int:
        return self.planes[0].shape[2]

    @property
    def stored_size(self) -> int:
        return self.native_size

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int, size: int) -> np.ndarray:
        file, row = locate(index, self._starts)
        pixels = np.ascontiguousarray(self.planes[file][row].transpose(1, 2, 0))  # (S, S, 3)
        return pixels if size == self.native_size else images.resize_and_crop(pixels, size)

    def describe(self, index: int) -> str:
        file, row = locate(index, self._starts)
        return f"{self.paths[file]}, {self.record_name} {row}"

    def image_name(self, index: int) -> str:
        file, row = locate(index, self._starts)
        return f"{self.paths[file].name}, {self.record_name} {row}"

    def content_size(self, index: int) -> int:
        return 3 * self.native_size**2

    def content(self, index: int) -> bytes:
        file, row = locate(index, self._starts)
        return self.planes[file][row].tobytes()

    @cached_property
    def _starts(self) -> np.ndarray:
        return starts([len(of_file) for of_file in self.planes])


def starts(counts: list[int]) -> np.ndarray:
    """The index of each file's first image, and the number of all: int64 (files + 1,)."""
    return np.concatenate(([0], np.cumsum(counts))).astype(np.int64)


def locate(index: int, starts: np.ndarray) -> tuple[int, int]:
    """The file that image `index` is in, and its row there; raises IndexError beyond the last."""
    if not 0 <= index < starts[-1]:
        raise IndexError(f"image {index} of {starts[-1]}")
    file = int(np.searchsorted(starts, index, side="right")) - 1
    return file, int(index - starts[file])


def require_whole(path: Path, rows: np.ndarray, what: str) -> None:
    """Raise InputError if a record of the file is all zeros: uint8 (n, bytes).

    A download that lost a part has zeros there, which would be black images of the first class.
    """
    black = np.flatnonzero(rows[:, 0] == 0)
    black = black[rows[black].max(axis=1, initial=0) == 0]
    if len(black):
        raise InputError(
            f"{str(path)!r} has {len(black):,} {what}s of zeros, the first is {what} "
            f"{black[0]:,}: part of the file is missing, download it again"
        )
