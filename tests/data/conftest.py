"""Small generated data sets, and the path of real photographs if there are any."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minialex.data.dataset import Dataset
from minialex.errors import InputError


class Numbered(Dataset):
    """Image i is all i % 256, of class i % 3; those in `broken` cannot be read."""

    name, layout, native_size = "numbered", "numbers", None
    class_ids = class_names = ("zero", "one", "two")

    def __init__(self, count, broken=()):
        self.labels = np.arange(count, dtype=np.int64) % 3
        self.broken = set(broken)
        self.reads: list[int] = []

    def __len__(self):
        return len(self.labels)

    def image(self, index, size):
        self.reads.append(index)
        if index in self.broken:
            raise InputError(f"number {index} is broken")
        return np.full((size, size, 3), index % 256, np.uint8)

    def describe(self, index):
        return f"number {index}"


@pytest.fixture(scope="session")
def numbered():
    return Numbered


def write_photo(path: Path, seed: int = 0, size=(40, 30)) -> Path:
    """A JPEG of coloured noise, different for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path, "JPEG")
    return path


@pytest.fixture(scope="session")
def photo():
    return write_photo


@pytest.fixture
def photos(tmp_path) -> Path:
    """train/ and val/ with classes `cat` and `dog`: 5 + 5 and 2 + 2 photographs."""
    seed = 0
    for part, count in (("train", 5), ("val", 2)):
        for name in ("cat", "dog"):
            for number in range(count):
                seed += 1
                write_photo(tmp_path / "photos" / part / name / f"{number}.JPEG", seed)
    return tmp_path / "photos"
