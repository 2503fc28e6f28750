"""What the suite measures and how: its sizes, its clock, its two ceilings."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minialex import backends

Run = Callable[[], Any]


@dataclass(frozen=True)
class Plan:
    """What is timed; the defaults are the whole suite, a test takes less."""

    model: str = "alexnet"
    precisions: tuple[str, ...] = ("tf32", "bf16")
    batches: tuple[int, ...] = (128, 512, 2048)
    all_up_to: int = 512  # the largest batch that every program is timed with
    kernel_batch: int = 128
    rounds: int = 5
    steps: int = 10  # a round
    repeats: int = 10  # of a kernel within one launch
    product: int = 8192  # rows and columns of the product that the rate is measured with
    copy_bytes: int = 4 << 30
    packed: int = 2048  # images of the packed set that is made to be trained from
    views: tuple[int, ...] = (1, 128, 1024)  # batches of inference
    budget: float = 540.0  # seconds after which no further part is begun


def rates(precision: str, plan: Plan) -> dict[str, float]:
    """Operations a second of a large product, bytes a second (read and written) of a copy."""
    b: Any = backends.get("cupy", 0, precision)
    n, draw, dtype = plan.product, np.random.default_rng(0), b.compute_dtype("float32")
    x, w = (b.asarray(draw.normal(size=(n, n)).astype("float32"), dtype) for _ in range(2))
    seconds = timed(b, {"product": lambda: b.dense(x, w, None)}, plan)["product"]
    one, other = (b.queue.empty((plan.copy_bytes,), np.uint8) for _ in range(2))

    def copy() -> None:
        other.data.copy_from_device_async(one.data, one.nbytes)

    return {
        "operations_per_second": 2.0 * n**3 / seconds,
        "bytes_per_second": 2.0 * plan.copy_bytes / timed(b, {"copy": copy}, plan)["copy"],
    }


def timed(b, runs: dict[str, Run], plan: Plan, waits: dict[str, Run] | None = None):
    """{name: median seconds of one call}, the runs taking turns.

    The device is waited for at the end of a round, by `waits` where b does not know of the work.
    """
    waits = waits or {}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():  # compiles, fills pools, captures
        run()
        run()
    for wait in (b.synchronize, *waits.values()):
        wait()
    for _ in range(plan.rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            for _ in range(plan.steps):
                run()
            waits.get(name, b.synchronize)()
            seconds[name].append((time.perf_counter() - start) / plan.steps)
    return {name: statistics.median(values) for name, values in seconds.items()}


def on_device(b, runs: dict[str, Run], plan: Plan) -> dict[str, float]:
    """As `timed`, without the host's part: each run several times within one captured graph."""
    if b.compile(None) is None:  # it cannot capture
        return timed(b, runs, plan)
    from minialex.backends.cuda.graph import Recording

    def repeated(run: Run) -> Run:
        def body() -> None:
            for _ in range(plan.repeats):
                run()

        return Recording(b.queue, body).run

    found = timed(b, {name: repeated(run) for name, run in runs.items()}, plan)
    return {name: value / plan.repeats for name, value in found.items()}
