"""What a data set holds, in a page and a picture: `minialex data info PATH`."""

import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from minialex.data.dataset import Dataset
from minialex.data.loading.loader import Loader
from minialex.data.sources.open import open_data
from minialex.data.statistics import Statistics
from minialex.errors import InputError

_SAMPLE = 500  # images that are opened for sizes and colour; all of ILSVRC takes an hour
_ROWS = 40  # a longer table shows the smallest and the largest classes
_SHEET_CLASSES, _SHEET_IMAGES, _SHEET_SIDE, _SHEET_TEXT = 20, 8, 96, 220


@dataclass(frozen=True)
class Info:
    """Colour is of the training images, in grey levels 0 … 255; sides are in pixels."""

    name: str
    layout: str
    class_ids: tuple[str, ...]
    class_names: tuple[str, ...]
    counts: dict[str, list[int]]  # part -> images of each class
    shorter_sides: tuple[int, int, int] | None  # smallest, median, largest
    mean_colour: tuple[float, float, float] | None  # RGB
    colour_std: float | None
    measured: int  # training images behind sizes and colour
    unreadable: dict[str, str]

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
        }

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.name}: {self.layout}"
        for part, counts in self.counts.items():
            yield (
                f"{part}: {sum(counts):,} images in {len(counts):,} classes, {min(counts):,} to "
                f"{max(counts):,} a class (median {np.median(counts):,.0f})"
            )
        of = f"of {self.measured:,} training images"
        if self.shorter_sides is not None:
            low, median, high = self.shorter_sides
            yield f"shorter sides: {low} to {high} pixels (median {median}), {of}"
        if self.mean_colour is not None:
            red, green, blue = self.mean_colour
            yield (
                f"mean colour: red {red:.1f}, green {green:.1f}, blue {blue:.1f} of 255, "
                f"standard deviation {self.colour_std:.1f}, {of}"
            )
        if self.unreadable:
            yield f"unreadable {of}: {len(self.unreadable):,}"
            yield from (f"  {r if n in r else f'{n}: {r}'}" for n, r in self.unreadable.items())
        yield from self._table()

    def _table(self) -> Iterator[str]:
        order = list(range(len(self.class_ids)))
        if len(order) > _ROWS:
            order.sort(key=lambda k: self.counts["train"][k])
            order = order[: _ROWS // 4] + order[-_ROWS // 4 :]
            yield f"the {_ROWS // 4} smallest and {_ROWS // 4} largest classes:"
        ids = [self.class_ids[k] for k in order]
        names = [
            n if n != i else ""
            for n, i in ((self.class_names[k], self.class_ids[k]) for k in order)
        ]
        width, text = max(5, *map(len, ids)), max(0, *map(len, names))
        yield f"  {'class':<{width}}" + "".join(f"{part:>9}" for part in self.counts)
        for k, i, n in zip(order, ids, names, strict=True):
            numbers = "".join(f"{counts[k]:>9,}" for counts in self.counts.values())
            yield f"  {i:<{width}}{numbers}  {n:<{text}}".rstrip()


def inspect(
    data: str | os.PathLike[str], *, seed: int = 0, val_fraction: float = 0.1, workers=None
) -> Info:
    """Counts of all images; sizes and colour of a sample, or of all where they came with the set.

    Raises what `open_data` raises.
    """
    splits = open_data(data, seed=seed, val_fraction=val_fraction)
    train = splits.train
    counts = {
        part: np.bincount(of_part.labels, minlength=len(of_part.class_ids)).tolist()
        for part, of_part in (("train", train), ("val", splits.val))
    }
    chosen = np.linspace(0, len(train) - 1, min(len(train), _SAMPLE)).astype(np.int64)
    statistics: Statistics | None = getattr(train, "statistics", None)
    colour, measured, unreadable = None, len(chosen), {}
    if statistics is not None:
        mean = statistics.mean.mean(axis=(0, 1), dtype=np.float64)
        colour = mean, float(np.sqrt(np.mean(statistics.colour_std**2)))
        measured = statistics.count
    else:
        colour, unreadable = _colour(train, chosen, workers)
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
    )


def _rounded(red, green, blue) -> tuple[float, float, float]:
    return round(float(red), 2), round(float(green), 2), round(float(blue), 2)


def _colour(train: Dataset, chosen: np.ndarray, workers: int | None):
    """Mean RGB and standard deviation of the central squares of some images."""
    loader = Loader(train, 64, workers=workers, cache_bytes=0)
    means, squares = [], []
    try:
        for batch in loader.batches(chosen, 64):
            pixels = batch.images.astype(np.float64)
            means.append(pixels.mean(axis=(1, 2)))  # (n, 3)
            squares.append((pixels**2).mean(axis=(1, 2)))
    except InputError:
        if 2 * len(loader.skipped) <= len(chosen):
            raise  # a read got stuck, or there was no memory for it
        return None, loader.skipped  # most are unreadable: the list of them says so
    if not means:
        return None, loader.skipped
    mean, square = np.concatenate(means).mean(axis=0), np.concatenate(squares).mean(axis=0)
    return (mean, float(np.sqrt((square - mean**2).mean()))), loader.skipped


def _sides(train: Dataset, chosen: np.ndarray) -> list[int]:
    """Shorter sides by the images' headers; one number where all are of a size."""
    whole, indices = getattr(train, "whole", train), getattr(train, "indices", None)
    if not hasattr(whole, "dimensions"):
        stored = getattr(train, "size", train.native_size)
        return [] if stored is None else [stored]
    sides = []
    for index in chosen.tolist():
        try:
            sides.append(min(whole.dimensions(index if indices is None else int(indices[index]))))
        except (InputError, OSError):
            continue
    return sides


def contact_sheet(data: str | os.PathLike[str], *, seed: int = 0, val_fraction: float = 0.1):
    """A picture, PIL.Image, of a few training images of up to 20 classes, a row each."""
    from PIL import Image, ImageDraw

    train = open_data(data, seed=seed, val_fraction=val_fraction).train
    present = np.unique(train.labels)
    rows = present[np.linspace(0, len(present) - 1, min(len(present), _SHEET_CLASSES)).astype(int)]
    side, step = _SHEET_SIDE, _SHEET_SIDE + 4
    size = _SHEET_TEXT + _SHEET_IMAGES * step, len(rows) * step
    sheet = Image.new("RGB", size, "white")
    draw, (font, spelt) = ImageDraw.Draw(sheet), _lettering()
    for row, label in enumerate(rows.tolist()):
        name = spelt(train.class_names[label])[:34]
        draw.text((4, row * step + side // 2 - 6), name, fill="black", font=font)
        members = np.flatnonzero(train.labels == label)
        spread = np.linspace(0, len(members) - 1, min(len(members), _SHEET_IMAGES)).astype(int)
        for column, index in enumerate(members[spread].tolist()):
            place = _SHEET_TEXT + column * step, row * step
            try:
                sheet.paste(Image.fromarray(train.image(index, side)), place)
            except (InputError, OSError):
                x, y = place
                draw.rectangle((x, y, x + side - 1, y + side - 1), outline="red")
                draw.text((x + 8, y + side // 2 - 6), "unreadable", fill="red")
    return sheet


def _lettering():
    """-> a font of Pillow's, and how a name is spelt in it.

    Matplotlib brings a font of most alphabets; Pillow's own has little beside English.
    """
    from PIL import ImageFont

    found = find_spec("matplotlib")
    if found is not None and found.origin is not None:
        path = Path(found.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf"
        if path.exists():
            return ImageFont.truetype(path, 11), str
    return ImageFont.load_default(11), _in_ascii


def _in_ascii(name: str) -> str:
    """`name` without its accents, a question mark for what is no letter of ours."""
    apart = unicodedata.normalize("NFKD", name)
    kept = (c for c in apart if not unicodedata.combining(c))
    return "".join(c if c.isascii() else "?" for c in kept)
