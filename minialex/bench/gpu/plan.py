"""The suite's sizes and its clock, and the measured rates of its roofline."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np

from minialex import backends, models
from minialex.backends.cuda import device

Run = Callable[[], Any]


@dataclass(frozen=True)
class Plan:
    """What is timed; the defaults are the full suite, tests use smaller ones."""

    model: str = "alexnet"
    checked: tuple[str, ...] = ("bf16", "tf32", "fp32", "fp16")  # all ops
    precisions: tuple[str, ...] = ("bf16", "tf32")  # timed
    batches: tuple[int, ...] = (128, 512, 2048)
    all_up_to: int = 512  # larger batches are timed with the fastest programs only
    kernel_batch: int = 128
    few: int = 16  # images of a batch where only the numbers matter
    warm: float = 1.0  # seconds of work before a process's first timing, for the device's clocks
    rounds: int = 5
    steps: int = 10  # per round
    repeats: int = 10  # of a kernel in one launch
    product: int = 8192  # rows and columns of the matrix product that measures the compute rate
    copy_bytes: int = 4 << 30
    packed: int = 2048  # images of the packed data set for end-to-end training
    views: tuple[int, ...] = (1, 128, 1024)  # batch sizes of inference
    budget: float = 540.0  # seconds for all parts; in the process of one, for this part
    separate: bool = True  # each part in a process of its own
    prepare: str = ""  # "module:function" that such a process calls first, for tests
    checks: bool = False  # also the GPU tests, overfitting, compute-sanitizer
    data: str | None = None  # photographs to train on
    train_model: str = "alexnet-64-bn"
    train_precisions: tuple[str, ...] = ("fp32", "bf16")
    train_epochs: int = 10
    photograph_steps: int = 30
    drawn: str = "shapes:600"  # if there are no photographs

    @classmethod
    def of(cls, values: dict[str, Any]) -> "Plan":
        """A plan from its fields in JSON."""
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
        return cls(**fields)


@lru_cache(maxsize=1)
def initial_params(model: str) -> Any:
    """A network's initial parameters on the host; drawing AlexNet's takes seconds."""
    return models.get(model).network.init(backends.get("numpy"), 0)


def rates(precision: str, plan: Plan) -> dict[str, float]:
    """Operations/s of a large matrix product, bytes/s (read plus written) of a copy."""
    b: Any = backends.get("cupy", 0, precision)
    n, draw, dtype = plan.product, np.random.default_rng(0), b.compute_dtype("float32")
    x, w = (b.asarray(draw.normal(size=(n, n)).astype("float32"), dtype) for _ in range(2))
    seconds = timed(b, {"product": lambda: b.dense(x, w, None)}, plan)["product"]
    one, other = (b.stream.empty((plan.copy_bytes,), np.uint8) for _ in range(2))

    def copy() -> None:
        other.data.copy_from_device_async(one.data, one.nbytes)

    return {
        "operations_per_second": 2.0 * n**3 / seconds,
        "bytes_per_second": 2.0 * plan.copy_bytes / timed(b, {"copy": copy}, plan)["copy"],
    }


def timed(
    b: Any, runs: dict[str, Run], plan: Plan, waits: dict[str, Run] | None = None
) -> dict[str, float]:
    """{name: median seconds per call}; the runs take turns.

    A round ends when the device is idle: by `waits[name]`, by default `b.synchronize`. The first
    rounds of a process begin after `plan.warm` seconds of work: an idle device's clocks are low.
    """
    waits = waits or {}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():  # compiles, fills pools, captures
        run()
        run()
    end = _first_timing() + plan.warm
    while True:
        for wait in (b.synchronize, *waits.values()):
            wait()
        if time.perf_counter() >= end:
            break
        for run in runs.values():
            run()
    for _ in range(plan.rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            for _ in range(plan.steps):
                run()
            waits.get(name, b.synchronize)()
            seconds[name].append((time.perf_counter() - start) / plan.steps)
    return {name: statistics.median(values) for name, values in seconds.items()}


def copies(b: Any, size: int) -> int:
    """How many copies of a kernel's arrays, `size` bytes each, take turns when it is timed.

    Together they are more than twice the L2 cache: from there they would come faster than from
    memory, as they do not in a step.
    """
    return 1 + 2 * device.l2_cache(b.device) // size


@cache
def _first_timing() -> float:
    """When this process was about to time for the first time."""
    return time.perf_counter()


def on_device(b: Any, runs: dict[str, Sequence[Run]], plan: Plan) -> dict[str, float]:
    """Like `timed`, but without the host's time: each run is repeated in one captured graph.

    The runs of a name take turns; each has its own arrays.
    """
    in_turns = {name: _in_turns(listed, plan) for name, listed in runs.items()}
    calls = {name: len(listed) * _rounds(listed, plan) for name, listed in runs.items()}
    if b.compile(None) is not None:  # it can capture
        from minialex.backends.cuda.graph import Recording

        in_turns = {name: Recording(b.stream, body).run for name, body in in_turns.items()}
    return {name: value / calls[name] for name, value in timed(b, in_turns, plan).items()}


def _rounds(listed: Sequence[Run], plan: Plan) -> int:
    return -(-plan.repeats // len(listed))


def _in_turns(listed: Sequence[Run], plan: Plan) -> Run:
    def body() -> None:
        for _ in range(_rounds(listed, plan)):
            # kept for a round: memory that is written again at once would stay in the cache
            results = [run() for run in listed]
            del results

    return body
