"""The images passed to a classifier: accepted types, and batches of them.

Anything that is not an image raises InputError. An unreadable file among several is skipped with a
warning that names it, as on the command line; a single unreadable file raises.
"""

import io
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from minialex.data.dataset import Dataset
from minialex.data.decode.images import load_resized, resize_and_crop
from minialex.data.loading.retry import Patience
from minialex.data.remarks import Remarks
from minialex.data.sources import walk
from minialex.data.sources.drawings import is_drawings
from minialex.data.sources.open import open_data
from minialex.errors import InputError
from minialex.utils.paths import expanded

Image = Any  # a path, a file object or its bytes, a Pillow image, or a uint8 array
_BYTES = bytes | bytearray | memoryview
BATCH = 64  # images resized at a time

_EXPECTED = (
    "give paths of files or folders, file objects, Pillow images or uint8 arrays (H, W, 3), one or "
    "any number of them"
)


def chunks(images: Image | Iterable[Image]) -> Iterator[list[Image]]:
    """At most `BATCH` images at a time, taken from an iterator as they are used.

    Raises InputError for anything else, and if there are no images.
    """
    given = _expanded(_each(images))
    chunk = list(islice(given, BATCH))
    if not chunk:
        raise InputError("no image was given: give at least one")
    while chunk:
        yield chunk
        chunk = list(islice(given, BATCH))


@dataclass(frozen=True)
class Batch:
    """Some of the given images: which are readable, bool (n,), and those ones at each size.

    If none is readable, there is one black image, because networks cannot run an empty batch.
    """

    readable: np.ndarray
    images: dict[int, np.ndarray]  # uint8 (m, size, size, 3) for the m that can be read

    def rows(self, found: np.ndarray) -> np.ndarray:
        """One row per image from the network's rows (m, ...); NaN for unreadable images."""
        if self.readable.all():
            return found
        rows = np.full((len(self.readable), *found.shape[1:]), np.nan, found.dtype)
        rows[self.readable] = found[: int(self.readable.sum())]
        return rows


def batches(images: Image | Iterable[Image], sizes: Sequence[int]) -> Iterator[Batch]:
    """The images, at most `BATCH` at once, with their shorter side at each size, then cropped.

    Raises InputError if no image is readable, and for anything that is not an image.
    """
    patience, number, any_read = Patience(), 0, False
    reason: Exception | None = None
    for chunk in chunks(images):
        found: list[list[np.ndarray]] = []
        readable = np.zeros(len(chunk), bool)
        for index, image in enumerate(chunk):
            number += 1
            read = _reader(image, sizes)
            try:
                found.append(patience.read(read))
                readable[index] = True
            except (InputError, OSError) as error:
                if len(chunk) == number == 1 or patience.gone or isinstance(image, np.ndarray):
                    raise
                reason = reason or error
                warnings.warn(f"left out: {_sentence(error, image, number)}", stacklevel=2)
        any_read |= bool(found)
        columns = zip(*found or [[np.zeros((s, s, 3), np.uint8) for s in sizes]], strict=True)
        yield Batch(readable, {s: np.stack(c) for s, c in zip(sizes, columns, strict=True)})
    if not any_read:
        raise InputError(f"none of the {number:,} images is readable ({reason})")


def files_in(folder: str | os.PathLike[str], remarks: Remarks | None = None) -> list[Path]:
    """The image files in a folder and below it, sorted; `remarks` gets what is left out.

    Raises InputError if there is none.
    """
    path = expanded(folder)
    found = sorted(path / name for name in walk.below(path, remarks or Remarks()))
    if not found:
        raise InputError(f"no images in folder {folder}: give image files, or a folder of images")
    return found


def _expanded(given: Iterator[Image]) -> Iterator[Image]:
    """The given images, with folders replaced by their files, and shapes:N by drawings."""
    for image in given:
        if isinstance(image, str) and is_drawings(image) and not os.path.exists(image):
            yield from drawings(image)
        elif isinstance(image, str | os.PathLike) and _is_folder(image):
            remarks = Remarks()
            yield from files_in(image, remarks)
            for problem in remarks.problems():
                warnings.warn(f"{os.fspath(image)!r}: {problem}", stacklevel=2)
        elif isinstance(image, str | os.PathLike) and os.fsdecode(image).startswith("~"):
            yield expanded(os.fsdecode(image))
        else:
            yield image


def _is_folder(image: str | os.PathLike[str]) -> bool:
    return "\0" not in os.fsdecode(image) and os.path.isdir(os.path.expanduser(image))


@dataclass(frozen=True)
class Drawing:
    """One of the built-in drawings, which can be drawn at any size."""

    dataset: Dataset
    index: int

    @property
    def name(self) -> str:
        """Its number and class."""
        label = self.dataset.labels[self.index]
        return f"drawing {self.index}: {self.dataset.class_names[label]}"

    def read(self, size: int) -> np.ndarray:
        """uint8 (size, size, 3)."""
        return self.dataset.image(self.index, size)


def drawings(name: str) -> list[Drawing]:
    """The N drawings that "shapes:N" stands for; they are in no training set."""
    _, _, number = name.partition(":")
    count = int(number) if number.isdecimal() else 0
    if count < 1:
        raise InputError(f"{name!r}: expected shapes:N with a number of images, e.g. shapes:3")
    drawn = open_data(f"shapes:{max(4 * count, 400)}").val
    return [Drawing(drawn, index) for index in range(count)]


def _each(images: Image | Iterable[Image]) -> Iterator[Image]:
    if _is_one(images):
        return iter([images])
    single = isinstance(images, np.ndarray) and not images.ndim
    if single or isinstance(images, Mapping) or not isinstance(images, Iterable):
        raise InputError(f"{_said(images)} is not an image: {_EXPECTED}")
    return iter(images)


def _is_one(image: Any) -> bool:
    if isinstance(image, np.ndarray):
        return image.ndim in (2, 3)
    return isinstance(image, str | _BYTES | os.PathLike) or _is_file(image) or _is_pillow(image)


def _is_file(image: Any) -> bool:
    return hasattr(image, "read") and hasattr(image, "seek")


def _is_pillow(image: Any) -> bool:
    from PIL.Image import Image as Pillow

    return isinstance(image, Pillow)


def _reader(image: Image, sizes: Sequence[int]) -> Callable[[], list[np.ndarray]]:
    """A function that reads an image at each size; raises InputError if it is not an image."""
    if isinstance(image, Drawing):
        one = image.read
    elif isinstance(image, str | os.PathLike):
        if not os.fspath(image) or "\0" in os.fsdecode(image):
            raise InputError(f"{image!r} is not an image: {_EXPECTED}")
        one = partial(load_resized, image)
    elif isinstance(image, _BYTES):
        one = partial(load_resized, bytes(image), name="the bytes given")
    elif _is_file(image):
        one = partial(_from_start, _binary(image))
    elif isinstance(image, np.ndarray):
        one = partial(resize_and_crop, image)
    elif _is_pillow(image):
        return lambda: [resize_and_crop(_loaded(image), size) for size in sizes]
    else:
        raise InputError(f"{_said(image)} is not an image: {_EXPECTED}")
    return lambda: [one(size) for size in sizes]


def _from_start(file: Any, size: int) -> np.ndarray:
    file.seek(0)
    return load_resized(file, size)


def _sentence(error: Exception, image: Image, number: int) -> str:
    """Why an image cannot be read, with its name or number."""
    name = os.fspath(image) if isinstance(image, str | os.PathLike) else f"image {number}"
    return str(error) if str(name) in str(error) else f"{name}: {error}"


def _loaded(image: Any) -> Any:
    """A Pillow image with its pixels loaded; Pillow reads only the header at first."""
    try:
        image.load()
    except Exception as error:  # Pillow raises a dozen types
        reason = str(error) or "its file was closed"
        raise InputError(f"a Pillow image cannot be loaded: {reason}") from error
    return image


def _binary(file: Any) -> Any:
    """An open binary file, rewound; for a pipe, all of its contents."""
    try:
        start = file.read(0)
    except io.UnsupportedOperation:
        raise InputError(
            f'{_said(file)} was opened for writing: open image files with mode "rb"'
        ) from None
    except ValueError:
        raise InputError(f"{_said(file)} is closed: open it again") from None
    if not isinstance(start, bytes):
        raise InputError(f'{_said(file)} was opened as text: open image files with mode "rb"')
    try:
        file.seek(0)
    except OSError:
        return io.BytesIO(file.read())
    return file


def _said(value: Any) -> str:
    text = " ".join(repr(value).split())
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"
