"""Describes a data set: `minialex data PATH`."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from minialex.data.dataset import Dataset
from minialex.data.inspect import report_lines
from minialex.data.loading.loader import Loader
from minialex.data.remarks import every_line
from minialex.data.sources.open import open_data
from minialex.errors import InputError

_SAMPLE = 500  # images opened to measure sizes and colour; all of ILSVRC would take an hour
_PARTS = {"train": "training", "val": "validation"}


@dataclass(frozen=True)
class Info:
    """A data set's classes, sizes (pixels), and the colour of its training images (0 to 255)."""

    name: str
    layout: str
    class_ids: tuple[str, ...]
    class_names: tuple[str, ...]
    counts: dict[str, list[int]]  # part -> images of each class
    shorter_sides: tuple[int, int, int] | None  # smallest, median, largest
    mean_colour: tuple[float, float, float] | None  # RGB
    colour_std: float | None
    measured: int  # training images that sizes and colour were measured on
    unreadable: dict[str, str]
    tried: dict[str, int]  # part -> images that were read to find the unreadable ones
    remarks: tuple[str, ...] = ()  # what was left out, and what is missing

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "name": self.name,
            "layout": self.layout,
            "classes": [
                {"id": i, "name": n, **{part: c[k] for part, c in self.counts.items()}}
                for k, (i, n) in enumerate(zip(self.class_ids, self.class_names, strict=True))
            ],
            "images": {part: sum(c) for part, c in self.counts.items()},
            "shorter_sides": self.shorter_sides,
            "mean_colour": self.mean_colour,
            "colour_std": self.colour_std,
            "measured": self.measured,
            "unreadable": self.unreadable,
            "tried": self.tried,
            "remarks": list(self.remarks),
        }

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.name}: {self.layout}"
        yield from report_lines.class_sizes(self.counts)
        yield from self.remarks
        of = f"of {self.measured:,} training images"
        if self.shorter_sides is not None:
            yield f"{report_lines.shorter_sides(*self.shorter_sides)}, {of}"
        if self.mean_colour is not None:
            red, green, blue = self.mean_colour
            yield (
                f"mean colour: red {red:.1f}, green {green:.1f}, blue {blue:.1f} of 255, "
                f"standard deviation {self.colour_std:.1f}, {of}"
            )
        if self.unreadable:
            tried = " and ".join(
                f"{count:,} {_PARTS[part]} images" for part, count in self.tried.items() if count
            )
            yield f"unreadable of {tried}: {len(self.unreadable):,}"
            yield from (f"  {r if n in r else f'{n}: {r}'}" for n, r in self.unreadable.items())
        yield from report_lines.class_table(self.counts, self.class_ids, self.class_names)


def inspect(
    data: str | os.PathLike[str],
    *,
    seed: int = 0,
    val_fraction: float = 0.1,
    workers: int | None = None,
) -> Info:
    """Counts of all images, sizes and colour of a sample; colour of all if it came with the data.

    Raises what `open_data` raises.
    """
    splits = open_data(data, seed=seed, val_fraction=val_fraction)
    train = splits.train
    counts = {
        part: np.bincount(of_part.labels, minlength=len(of_part.class_ids)).tolist()
        for part, of_part in splits.parts.items()
    }
    chosen = _chosen(train)
    colour, measured = None, len(chosen)
    unreadable: dict[str, str] = {}
    tried: dict[str, int] = {}
    if (statistics := train.statistics) is not None:
        mean = statistics.mean.mean(axis=(0, 1), dtype=np.float64)
        colour = mean, float(np.sqrt(np.mean(statistics.colour_std**2)))
        measured = statistics.count
    else:
        colour, unreadable = _colour(train, chosen, workers)
        of_val = _chosen(splits.val)
        tried = {"train": len(chosen), "val": len(of_val)}
        unreadable = {**unreadable, **_colour(splits.val, of_val, workers)[1]}
    sides = _sides(train, chosen)
    return Info(
        name=train.name,
        layout=train.layout,
        class_ids=train.class_ids,
        class_names=train.class_names,
        counts=counts,
        shorter_sides=(min(sides), int(np.median(sides)), max(sides)) if sides else None,
        mean_colour=_rounded(*colour[0]) if colour else None,
        colour_std=round(colour[1], 2) if colour else None,
        measured=measured,
        unreadable=unreadable,
        tried=tried,
        remarks=tuple(every_line(splits.remarks)),
    )


def _chosen(part: Dataset) -> np.ndarray:
    return np.linspace(0, len(part) - 1, min(len(part), _SAMPLE)).astype(np.int64)


def _rounded(red: float, green: float, blue: float) -> tuple[float, float, float]:
    return round(float(red), 2), round(float(green), 2), round(float(blue), 2)


def _colour(
    part: Dataset, chosen: np.ndarray, workers: int | None
) -> tuple[tuple[np.ndarray, float] | None, dict[str, str]]:
    """Mean RGB and standard deviation of some images, centre cropped, and the unreadable ones."""
    loader = Loader(part, 64, workers=workers, cache_bytes=0)
    means, mean_squares = [], []
    try:
        for batch in loader.batches(chosen, 64):
            pixels = batch.images.astype(np.float64)
            means.append(pixels.mean(axis=(1, 2)))  # (n, 3)
            mean_squares.append((pixels**2).mean(axis=(1, 2)))
    except InputError:
        if 2 * len(loader.skipped) <= len(chosen):
            raise  # a read hung, or there was not enough memory for it
        return None, loader.skipped  # most are unreadable: the list of them says so
    if not means:
        return None, loader.skipped
    mean = np.concatenate(means).mean(axis=0)
    variance = np.concatenate(mean_squares).mean(axis=0) - mean**2
    return (mean, float(np.sqrt(variance.mean()))), loader.skipped


def _sides(train: Dataset, chosen: np.ndarray) -> list[int]:
    """Shorter sides of some images, from their headers."""
    sides = []
    for index in chosen.tolist():
        try:
            dimensions = train.dimensions(index)
        except (InputError, OSError):
            continue
        if dimensions is not None:
            sides.append(min(dimensions))
    return sides
