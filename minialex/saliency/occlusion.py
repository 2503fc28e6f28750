"""Occlusion: the class's probability with a part of the image covered (Zeiler & Fergus, 2014)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from minialex.backends.base import Array, Backend
from minialex.errors import InputError
from minialex.inference.trained_model import TrainedModel, softmax
from minialex.saliency.forward import View, forward, host

_BATCH = 32


@dataclass(frozen=True)
class Occlusion:
    """How much the probability of a class falls when a window covers part of the crop.

    `drops` (P, Q) are probabilities, negative where covering helps; window (p, q) covers the pixels
    from `tops[p]` and `lefts[q]` on, `window` both ways.
    """

    drops: np.ndarray
    tops: tuple[int, ...]
    lefts: tuple[int, ...]
    window: int
    probability: float  # with nothing covered


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
    run = forward(model, image[None], view)
    x = host(run.b, run.x)[0]  # (crop, crop, C)
    height, width = x.shape[:2]
    size = max(1, min(height, width) // 6) if window is None else window
    step = max(1, size // 2) if stride is None else stride
    if not 1 <= size <= min(height, width) or step < 1:
        raise InputError(
            f"a window of {size} pixels every {step} cannot cover a crop of {height} x {width}: "
            "both must be at least 1, and the window no larger than the crop"
        )
    tops, lefts = _places(height, size, step), _places(width, size, step)
    if not 0 <= label < model.network.classes:
        raise InputError(f"the network has classes 0 to {model.network.classes - 1}, not {label}")
    where = [None, *((top, left) for top in tops for left in lefts)]
    found: list[float] = []
    for start in range(0, len(where), _BATCH):
        some = where[start : start + _BATCH]
        covered = np.repeat(x[None], len(some), axis=0)
        for one, place in zip(covered, some, strict=True):
            if place is not None:
                one[place[0] : place[0] + size, place[1] : place[1] + size] = 0
        found += _probabilities(model, covered)[:, label].tolist()
        on_batch(len(some))
    whole, *rest = found
    drops = whole - np.array(rest).reshape(len(tops), len(lefts))
    return Occlusion(drops, tops, lefts, size, whole)


def _places(extent: int, size: int, step: int) -> tuple[int, ...]:
    """Where windows start: every `step` pixels, and one that ends at the edge."""
    last = extent - size
    return tuple(sorted({*range(0, last, step), last}))


def _probabilities(model: TrainedModel, x: np.ndarray) -> np.ndarray:
    def inputs(b: Backend, first: int, end: int) -> Array:
        return b.asarray(x[first:end], b.compute_dtype(model.dtype))

    return softmax(model.devices.infer(model.params, inputs, len(x)).astype(np.float64))
