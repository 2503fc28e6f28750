"""What the machine can do, measured through the backend: the floor under every layer's time."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import numpy as np

from minialex.backends import Backend


@dataclass(frozen=True)
class Ceiling:
    """`flops` of a large product and `bytes` moved in place, both a second."""

    flops: float
    bytes: float

    def floor(self, flops: float, moved: float) -> float:
        """The least seconds for so many operations and bytes, one hidden behind the other."""
        return max(flops / self.flops, moved / self.bytes)


def seconds(b: Backend, run: Callable[[], object]) -> float:
    """How long `run` takes on the backend's device, until all of it is done."""
    b.synchronize()
    start = time.perf_counter()
    run()
    b.synchronize()
    return time.perf_counter() - start


def product(b: Backend, size: int) -> Callable[[], object]:
    """A square product of 2 size³ operations, in the backend's precision."""
    matrix = b.asarray(np.random.default_rng(0).standard_normal((size, size), np.float32))
    x = b.cast_params({"": {"weight": matrix}})[""]["weight"]
    return lambda: b.dense(x, x, None)


def measure(b: Backend, size: int = 3072, numbers: int = 1 << 24, rounds: int = 5) -> Ceiling:
    """Medians of a product of `size` and of an update in place, after one of each to warm up."""
    multiply = product(b, size)
    w, v, g = (b.asarray(np.zeros(numbers, np.float32)) for _ in range(3))

    def update() -> None:
        b.sgd_update(w, v, g, 0.01, 0.9, 0.0005)

    multiply()
    update()
    products = median(seconds(b, multiply) for _ in range(rounds))
    updates = median(seconds(b, update) for _ in range(rounds))
    return Ceiling(2 * size**3 / products, 5 * w.dtype.itemsize * numbers / updates)
