"""The roofline: the minimum time of a layer, from measured compute and memory rates."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import numpy as np

from minialex.backends import Backend


@dataclass(frozen=True)
class Roofline:
    """Rates of the device: FLOP/s of a large matrix product, bytes/s of a large update in place."""

    flops: float
    bytes: float

    def least_seconds(self, flops: float, moved: float) -> float:
        """The minimum time for `flops` operations and `moved` bytes, overlapping perfectly."""
        return max(flops / self.flops, moved / self.bytes)


def seconds(b: Backend, run: Callable[[], object]) -> float:
    """The duration of `run` in seconds, until the device has finished."""
    b.synchronize()
    start = time.perf_counter()
    run()
    b.synchronize()
    return time.perf_counter() - start


def product(b: Backend, size: int) -> Callable[[], object]:
    """A square matrix product of 2 size³ operations, in the backend's precision."""
    matrix = b.asarray(np.random.default_rng(0).standard_normal((size, size), np.float32))
    x = b.cast_params({"": {"weight": matrix}})[""]["weight"]
    return lambda: b.dense(x, x, None)


def measure(b: Backend, size: int = 3072, numbers: int = 1 << 24, rounds: int = 5) -> Roofline:
    """Medians of a product of `size` and of an update of `numbers` weights, after a warm-up."""
    multiply = product(b, size)
    # ones: the system gives zeros that were never written one page for all, which is in the cache
    w, v, g = (b.asarray(np.ones(numbers, np.float32)) for _ in range(3))

    def update() -> None:
        b.sgd_update(w, v, g, 0.01, 0.9, 0.0005)

    multiply()
    update()
    products = median(seconds(b, multiply) for _ in range(rounds))
    updates = median(seconds(b, update) for _ in range(rounds))
    return Roofline(2 * size**3 / products, 5 * w.dtype.itemsize * numbers / updates)
