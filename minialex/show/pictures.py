"""Arrays as pictures: sheets of maps, heat over a photograph, saliency."""

from dataclasses import dataclass

import numpy as np

from minialex.saliency.receptive_field import Grid

_CELL = 44  # pixels of a small map's side, about; more where there are few
_HIGH = 330  # pixels of a sheet's height, so that there may be more
_WIDE = 660  # pixels of a sheet's width, at most
GAP = 2

# dark violet to yellow, in equal steps of lightness: it can be told apart without colour vision
_HEAT = np.array([(0, 0, 4), (81, 18, 124), (183, 55, 121), (252, 137, 97), (252, 253, 191)], float)


@dataclass(frozen=True)
class Sheet:
    """Maps side by side on grey: uint8 (H, W); map k is in row k // columns."""

    pixels: np.ndarray
    columns: int
    count: int
    cell: tuple[int, int]  # height and width of one with the gap after it
    gap: int = 0


def sheet(maps: np.ndarray, largest: float | None = None) -> Sheet:
    """Maps (P, Q, K) or units (K,) side by side.

    Without negative numbers, zero is black and `largest` (None: the largest of all) white; with
    some, zero is grey and they are darker. Small values are lifted by a square root.
    """
    if maps.ndim == 1:
        return _units(maps, largest)
    shown = shades(maps, largest)
    high, wide, count = shown.shape
    zoom = _zoom(high, wide, count)
    tall, across = high * zoom + GAP, wide * zoom + GAP
    columns = max(1, min(count, _WIDE // across))
    found = np.full((-(-count // columns) * tall, columns * across), 96, np.uint8)
    for k in range(count):
        top, left = k // columns * tall, k % columns * across
        big = shown[..., k].repeat(zoom, axis=0).repeat(zoom, axis=1)
        found[top : top + high * zoom, left : left + wide * zoom] = big
    return Sheet(found, columns, count, (tall, across), GAP)


def _zoom(high: int, wide: int, count: int) -> int:
    """How many pixels of a sheet a number has each way."""
    zoom = max(1, round(_CELL / max(high, wide)))
    while max(high, wide) * (zoom + 1) <= 2.5 * _CELL:
        columns = _WIDE // (wide * (zoom + 1) + GAP)
        if -(-count // columns) * (high * (zoom + 1) + GAP) > _HIGH:
            break
        zoom += 1
    return zoom


def _units(units: np.ndarray, largest: float | None) -> Sheet:
    """A square for each unit, in rows."""
    zoom = 24 if len(units) <= 24 else 8 if len(units) <= 512 else 6
    columns = min(len(units), _WIDE // zoom // (2 if zoom == 8 else 1))
    rows = -(-len(units) // columns)
    padded = np.full(rows * columns, 96, np.uint8)
    padded[: len(units)] = shades(units, largest)
    found = padded.reshape(rows, columns).repeat(zoom, axis=0).repeat(zoom, axis=1)
    return Sheet(found, columns, len(units), (zoom, zoom))


def shades(x: np.ndarray, largest: float | None = None) -> np.ndarray:
    """Numbers as grey values, uint8, as `sheet` draws them; what is not finite is black."""
    x = np.nan_to_num(np.asarray(x, np.float64), posinf=0, neginf=0)
    top = float(np.max(np.abs(x), initial=0)) if largest is None else largest
    if top <= 0:
        return np.full(x.shape, 128 if np.any(x < 0) else 0, np.uint8)
    lifted = np.sign(x) * np.sqrt(np.minimum(1, np.abs(x) / top))
    if np.any(x < 0):
        return np.rint(127.5 + 127.5 * lifted).astype(np.uint8)
    return np.rint(255 * lifted).astype(np.uint8)


def heat(values: np.ndarray) -> np.ndarray:
    """Numbers in 0 … 1 as colours: (...) -> uint8 (..., 3)."""
    at = np.clip(np.nan_to_num(values), 0, 1) * (len(_HEAT) - 1)
    low = np.minimum(at.astype(int), len(_HEAT) - 2)
    share = (at - low)[..., None]
    return np.rint(_HEAT[low] * (1 - share) + _HEAT[low + 1] * share).astype(np.uint8)


def over(pixels: np.ndarray, values: np.ndarray, grid: Grid | None = None) -> np.ndarray:
    """A map's positive values as heat over a grey photograph: (H, W, 3), (P, Q) -> (H, W, 3).

    The values lie at the points of `grid`; without one, the map covers the photograph.
    """
    top = float(np.max(values, initial=0))
    share = np.clip(values / top, 0, 1) if top > 0 else np.zeros_like(values)
    size = pixels.shape[:2]
    big = resized(share, size) if grid is None else _at(share, grid, size)
    grey = pixels.mean(axis=2, keepdims=True)
    return np.rint(0.45 * grey + 0.55 * heat(big)).astype(np.uint8)


def _at(values: np.ndarray, grid: Grid, size: tuple[int, int]) -> np.ndarray:
    """A map between the points of its grid, and its outermost values beyond them: -> (H, W)."""
    starts = grid.top, grid.left
    rows, columns = (
        _shares(np.clip((np.arange(count) - start) / grid.step, 0, extent - 1), extent)
        for count, start, extent in zip(size, starts, values.shape, strict=True)
    )
    return rows @ values @ columns.T


def _shares(at: np.ndarray, extent: int) -> np.ndarray:
    """The share of each of `extent` values at places between them: (N,) -> (N, extent)."""
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(extent)))


def resized(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A map at another size, between its values: (P, Q) -> (H, W)."""
    from PIL import Image

    picture = Image.fromarray(np.asarray(values, np.float32))
    return np.asarray(picture.resize((size[1], size[0]), Image.Resampling.BILINEAR))


def saliency(dx: np.ndarray) -> np.ndarray:
    """What came back to the pixels, (H, W, 3), as colours around grey, uint8.

    The largest thousandth is cut off, so that a single pixel does not leave the others grey.
    """
    top = float(np.quantile(np.abs(dx), 0.999))
    if top <= 0:
        top = float(np.max(np.abs(dx), initial=0)) or 1.0
    return np.rint(127.5 + 127.5 * np.clip(dx / top, -1, 1)).astype(np.uint8)
