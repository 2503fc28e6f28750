"""Occlusion: how much a score drops when part of the image is covered (Zeiler & Fergus, 2014)."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from minialex.backends.base import Array, Backend
from minialex.errors import InputError
from minialex.inference.trained_model import TrainedModel, softmax
from minialex.saliency.backward import one_unit
from minialex.saliency.forward import View, as_computed, forward, host, require_layers
from minialex.saliency.receptive_field import Box, receptive_field
from minialex.utils.arguments import integer

_BATCH = 32


@dataclass(frozen=True)
class Occlusion:
    """How much the probability of a class, or a unit, falls where a window covers the crop.

    `drops` (P, Q) are negative where covering helps; window (p, q) covers the pixels from `tops[p]`
    and `lefts[q]` on, `window` both ways.
    """

    drops: np.ndarray
    tops: tuple[int, ...]
    lefts: tuple[int, ...]
    window: int
    value: float  # the probability or the unit's output with nothing covered


def occlusion(
    model: TrainedModel,
    image: np.ndarray,
    label: int,
    window: int | None = None,
    stride: int | None = None,
    view: View | None = None,
    on_batch: Callable[[int], object] = lambda images: None,
) -> Occlusion:
    """Cover one image, uint8 (S, S, C), by a window at every `stride` pixels of its crop.

    What is covered has the mean colour of the training images: zero in the network's input.
    `window` is a sixth of the crop by default and `stride` half a window; the last windows end at
    the edges. `on_batch` is called with the number of covered images computed.
    """
    if not 0 <= label < model.network.classes:
        raise InputError(f"the network has classes 0 to {model.network.classes - 1}, not {label}")
    run = forward(model, image[None], view)

    def probabilities(x: np.ndarray) -> np.ndarray:
        return _probabilities(model, x)[:, label]

    return _covered(host(run.b, run.x)[0], probabilities, window, stride, None, on_batch)


def unit_occlusion(
    model: TrainedModel,
    image: np.ndarray,
    layer: str,
    channel: int,
    pixel: tuple[int, int] | None = None,
    window: int | None = None,
    stride: int | None = None,
    view: View | None = None,
    on_batch: Callable[[int], object] = lambda images: None,
) -> Occlusion:
    """`occlusion` of one unit of `layer` instead of a class; `value` is its output.

    Without a `pixel` (row, column) of the layer's output, it is the channel's strongest one in the
    uncovered image. Windows that the unit cannot see are not computed: they change nothing.
    """
    require_layers(model, [layer])
    run = forward(model, image[None], view, layer)
    y = host(run.b, run.run())
    units = one_unit(y, channel, pixel, layer)
    unit = tuple(int(k) for k in np.argwhere(units)[0][1:])
    seen = receptive_field(model.network, layer, (unit[0], unit[1])) if y.ndim == 4 else None

    def values(x: np.ndarray) -> np.ndarray:
        one = replace(run, x=as_computed(run, x), saved=[])
        for _, output in one.outputs():  # noqa: B007
            pass
        return host(one.b, output)[:, units[0]][:, 0].astype(np.float64)

    return _covered(host(run.b, run.x)[0], values, window, stride, seen, on_batch)


def _covered(
    x: np.ndarray,
    values: Callable[[np.ndarray], np.ndarray],
    window: int | None,
    stride: int | None,
    seen: Box | None,
    on_batch: Callable[[int], object],
) -> Occlusion:
    """Drops of `values` (N, H, W, C) -> (N,) on x (H, W, C), by windows that touch `seen`."""
    height, width = x.shape[:2]
    shorter = min(height, width)
    size = max(1, shorter // 6) if window is None else window
    size = integer(1, at_most=shorter).check("window", size)
    step = integer(1).check("stride", max(1, size // 2) if stride is None else stride)
    tops, lefts = _places(height, size, step), _places(width, size, step)
    places = [
        (p, q)
        for p, top in enumerate(tops)
        for q, left in enumerate(lefts)
        if seen is None or _touches(seen, top, left, size)
    ]
    where = [None, *places]
    found: list[float] = []
    for start in range(0, len(where), _BATCH):
        some = where[start : start + _BATCH]
        covered = np.repeat(x[None], len(some), axis=0)
        for one, place in zip(covered, some, strict=True):
            if place is not None:
                top, left = tops[place[0]], lefts[place[1]]
                one[top : top + size, left : left + size] = 0
        found += values(covered).tolist()
        on_batch(len(some))
    whole, *rest = found
    drops = np.zeros((len(tops), len(lefts)))
    for place, value in zip(places, rest, strict=True):
        drops[place] = whole - value
    return Occlusion(drops, tops, lefts, size, whole)


def _touches(box: Box, top: int, left: int, size: int) -> bool:
    return top < box.bottom and top + size > box.top and left < box.right and left + size > box.left


def _places(extent: int, size: int, step: int) -> tuple[int, ...]:
    """Where windows start: every `step` pixels, and one that ends at the edge."""
    last = extent - size
    return tuple(sorted({*range(0, last, step), last}))


def _probabilities(model: TrainedModel, x: np.ndarray) -> np.ndarray:
    def inputs(b: Backend, first: int, end: int) -> Array:
        return b.asarray(x[first:end], b.compute_dtype(model.dtype))

    return softmax(model.devices.infer(model.params, inputs, len(x)).astype(np.float64))
