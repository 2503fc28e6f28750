"""How many images a second come out of a data set, beside what PyTorch's DataLoader gets."""

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from minialex.data.augment import epoch_order
from minialex.data.folder import ImageFolder
from minialex.data.loader import Loader, cores
from minialex.data.open import open_data
from minialex.data.statistics import Statistics, supplied

_BATCH = 128
_REPEATS = 3  # the best counts: the first also reads from the disk


@dataclass(frozen=True)
class Rate:
    """`seconds` are a processor's, over all threads, where they can be counted."""

    what: str
    images_per_second: float
    per_core_second: float | None = None


def rates(
    data: str | os.PathLike[str], *, size: int = 256, workers: int | None = None, images: int = 2000
) -> list[Rate]:
    """Squares of `size` from the training images, then the paper's float input from these.

    For a folder of files also what torchvision-style code gets with as many workers, if PyTorch is
    installed: Pillow, shorter side scaled, centre cut out, collated by a DataLoader.
    """
    train, workers = open_data(data).train, workers or cores()
    order = epoch_order(0, 0, len(train))[:images]

    def squares():
        return Loader(train, size, workers=workers, cache_bytes=0).batches(order, _BATCH)

    found = [
        _measure(f"squares of {size}, {workers} threads", lambda: map(len, squares())),
        _measure(f"float input, {workers} threads", lambda: _float_input(train, size, squares())),
    ]
    whole = getattr(train, "whole", train)
    if isinstance(whole, ImageFolder):
        indices = getattr(train, "indices", np.arange(len(train)))[order]
        paths = [whole.folder / whole.files[i] for i in indices]
        try:
            import torch  # noqa: F401
        except ImportError:
            return found
        what = f"squares of {size}, DataLoader, {workers} processes"
        found.append(_measure(what, lambda: _data_loader(paths, size, workers), count_cpu=False))
    return found


def _measure(what: str, run: Callable[[], Iterable[int]], count_cpu: bool = True) -> Rate:
    best, best_cpu = 0.0, 0.0
    for _ in range(_REPEATS):
        start, cpu = time.perf_counter(), time.process_time()
        count = sum(run())
        best = max(best, count / (time.perf_counter() - start))
        best_cpu = max(best_cpu, count / max(time.process_time() - cpu, 1e-9))
    return Rate(what, best, best_cpu if count_cpu else None)


def _float_input(train, size: int, batches) -> Iterable[int]:
    """Random crops, mirrored and with shifted colours, less the mean image: the paper's input."""
    from minialex import backends, models
    from minialex.preprocessing import Preprocessing

    statistics = supplied(train, size) or Statistics(
        np.full((size, size, 3), 120, np.float32), np.array([5.0, 15.0, 70.0]), np.eye(3), 1
    )
    crop = size * 227 // 256
    recipe = models.get("alexnet", 2).recipe
    preprocessing = Preprocessing(replace(recipe, resize=size, crop=crop), statistics)
    b = backends.get("numpy")
    for batch in batches:
        preprocessing.training_input(
            b, batch.images, batch.positions, seed=0, epoch=0, noise=0.1, dtype="float32"
        )
        yield len(batch)


class _Files:
    """What torchvision's ImageFolder, Resize and CenterCrop do, in a DataLoader's processes."""

    def __init__(self, paths: list[Path], size: int):
        self.paths, self.size = paths, size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        from PIL import Image

        with self.paths[index].open("rb") as file:
            image = Image.open(file).convert("RGB")
        width, height, size = *image.size, self.size
        scaled = (
            (size, size * height // width) if width < height else (size * width // height, size)
        )
        image = image.resize(scaled, Image.Resampling.BILINEAR)
        left, top = round((image.width - size) / 2), round((image.height - size) / 2)
        return np.array(image.crop((left, top, left + size, top + size)))


def _data_loader(paths: list[Path], size: int, workers: int) -> Iterable[int]:
    from torch.utils.data import DataLoader

    files: Any = _Files(paths, size)
    loader: Any = DataLoader(files, _BATCH, num_workers=workers)
    return (len(batch) for batch in loader)
