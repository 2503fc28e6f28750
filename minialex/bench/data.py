"""Images per second read from a data set, compared with PyTorch's DataLoader."""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from minialex.bench import pytorch
from minialex.data.augment.draws import epoch_order
from minialex.data.dataset import Dataset
from minialex.data.loading.loader import Batch, Loader
from minialex.data.sources.open import open_data
from minialex.data.statistics import Statistics, supplied
from minialex.errors import InputError
from minialex.utils.cores import usable_cores

IMAGENET = 1_281_167  # training images of ILSVRC-2012
_BATCH = 128


@dataclass(frozen=True)
class Rate:
    """Median rates; `per_core_second` is per second of CPU time of all threads, None if the work
    was done in other processes."""

    what: str
    images_per_second: float
    per_core_second: float | None


def rates(
    data: str | os.PathLike[str],
    *,
    size: int = 256,
    workers: int | None = None,
    rounds: int = 3,
    compare: bool = False,
    images: int = 2000,
) -> list[Rate]:
    """Rates of reading resized images (the first `images` of an epoch), also with augmentation.

    With `compare`, also the rate of torchvision-style code in a DataLoader with as many workers,
    from a folder of files: Pillow, shorter side resized, centre crop. The variants take turns.
    """
    train, workers = open_data(data).train, workers or usable_cores()
    order = epoch_order(0, 0, len(train))[:images]

    def resized() -> Iterator[Batch]:
        return Loader(train, size, workers=workers, cache_bytes=0).batches(order, _BATCH)

    runs: dict[str, Callable[[], Iterable[int]]] = {
        f"resized to {size}, {workers} threads": lambda: map(len, resized()),
        f"resized and augmented, {workers} threads": lambda: _float_input(train, size, resized()),
    }
    if compare:
        loader = _data_loader(_paths(train, order), size, workers)
        name = f"resized to {size}, DataLoader, {workers} processes"
        runs[name] = lambda: (len(batch) for batch in loader)
    taken: dict[str, list[tuple[float, float]]] = {what: [] for what in runs}
    for _ in range(1 + rounds):
        for what, run in runs.items():
            taken[what].append(_count(run))
    found = []
    for what, pairs in taken.items():
        rate, per_core = (median(column) for column in zip(*pairs[1:], strict=True))
        found.append(Rate(what, rate, None if "DataLoader" in what else per_core))
    return found


def text(found: list[Rate]) -> str:
    """One line per rate, with the minutes per epoch of ILSVRC-2012 at that rate."""
    lines = []
    for rate in found:
        line = f"{rate.what:44} {rate.images_per_second:9,.0f} images/s"
        if rate.per_core_second is not None:
            line += f" {rate.per_core_second:9,.0f} per core"
        line += f"   ILSVRC-2012: {IMAGENET / rate.images_per_second / 60:5.1f} min per epoch"
        lines.append(line)
    theirs = [rate for rate in found if rate.per_core_second is None]
    if theirs:
        ratio = found[0].images_per_second / theirs[0].images_per_second
        lines.append(f"{ratio:.2f} times the DataLoader's rate")
    return "\n".join(lines)


def document(found: list[Rate]) -> list[dict[str, Any]]:
    """The rates as JSON."""
    return [asdict(rate) for rate in found]


def _count(run: Callable[[], Iterable[int]]) -> tuple[float, float]:
    """-> images per second, and per second of CPU time."""
    start, cpu = time.perf_counter(), time.process_time()
    count = sum(run())
    spent = time.perf_counter() - start, time.process_time() - cpu
    return count / spent[0], count / max(spent[1], 1e-9)


def _paths(train: Dataset, order: np.ndarray) -> list[Path]:
    paths = [train.path(index) for index in order.tolist()]
    found = [path for path in paths if path is not None]
    if len(found) < len(paths):
        raise InputError(
            f"only a folder of image files can be compared with PyTorch, not {train.name}"
        )
    pytorch.require()
    return found


def _float_input(train: Dataset, size: int, batches: Iterable[Batch]) -> Iterator[int]:
    """The paper's input: random crops, mirrored and colour-augmented, minus the mean image."""
    from minialex import backends, models
    from minialex.data.preprocessing import Preprocessing

    statistics = supplied(train, size) or Statistics(
        np.full((size, size, 3), 120, np.float32), np.array([5.0, 15.0, 70.0]), np.eye(3), 1
    )
    crop = size * 227 // 256
    recipe = models.get("alexnet", 2).recipe
    preprocessing = Preprocessing(replace(recipe, resize=size, crop=crop), statistics)
    b = backends.get("auto")
    for batch in batches:
        preprocessing.training_input(
            b, batch.images, batch.positions, seed=0, epoch=0, noise=0.1, dtype="float32"
        )
        yield len(batch)


class _Files:
    """The equivalent of torchvision's ImageFolder, Resize and CenterCrop."""

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


def _data_loader(paths: list[Path], size: int, workers: int) -> Iterable[Any]:
    """Its processes start in the first round, which does not count."""
    from torch.utils.data import DataLoader

    files: Any = _Files(paths, size)
    return DataLoader(files, _BATCH, num_workers=workers, persistent_workers=True)
