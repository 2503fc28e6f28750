"""`minialex bench`: the roofline, the layers, the training step, and another program's in turns."""

import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from statistics import median
from typing import Any

from minialex.backends import Backend
from minialex.bench.network import Row, Run, by_stage, zero_inputs
from minialex.bench.program import Program
from minialex.bench.programs import PROGRAMS
from minialex.bench.roofline import Roofline, measure, seconds
from minialex.bench.subject import Subject
from minialex.models import Model
from minialex.parallel import DeviceConfig


@dataclass(frozen=True)
class Timing:
    """Median seconds per batch of a training step or of inference.

    `peers` has the other program's: PyTorch's by memory format; empty if none was asked for.
    """

    what: str
    seconds: float
    flops: float
    peers: dict[str, float]

    @property
    def ratio(self) -> float | None:
        """The other program's best time divided by ours."""
        return min(self.peers.values()) / self.seconds if self.peers else None


@dataclass(frozen=True)
class Result:
    """All measurements.

    `first_calls` are the seconds of the first training step and inference, including compilation
    of kernels not yet cached on disk; `peak_memory` is in bytes, after two of each and before
    another program was loaded. `compare` names that program, None without. `zero_inputs`
    is what the function of that name finds, if the weights are trained.
    """

    model: str
    options: dict[str, Any]
    batch: int
    backend: str
    threads: int | None
    precision: str
    machine: dict[str, str]
    roofline: Roofline
    rows: list[Row]
    timings: list[Timing]
    first_calls: float
    peak_memory: int | None
    compare: str | None = None
    subject: str | None = None
    zero_inputs: dict[str, float] = field(default_factory=dict)


def bench(
    subject: Subject,
    batch: int = 128,
    *,
    backend: str = "auto",
    devices=None,
    precision: str = "fp32",
    threads: int | None = None,
    training: bool = True,
    compare: str | None = None,
    rounds: int = 5,
    say: Callable[[str], None] = lambda text: None,
) -> Result:
    """Measure a network; `say` reports progress.

    Every time is the median of `rounds` rounds. With `compare`, a key of `PROGRAMS`, that program
    takes turns with ours, on the same batch with the same number of threads.
    """
    program = None if compare is None else PROGRAMS[compare].at(precision)
    if program is not None:
        program.require(training)
    where = DeviceConfig(backend, devices, None, precision, threads)
    model = subject.model
    opened = where.open(model.network)
    one = opened.backends[0]
    used = getattr(one, "threads", None)
    say("warming up")
    run = Run(opened, subject, batch)
    ours: dict[str, Callable[[], object]] = {"inference": run.infer}
    if training:
        ours = {"training step": run.train} | ours
    first = sum(seconds(one, work) for work in ours.values())
    for work in ours.values():
        work()
    peak = _peak_memory(one)
    say("measuring the roofline")
    roofline = measure(one)
    rows: list[Row] = []
    if len(opened.backends) == 1:
        say("timing the layers")
        rows = by_stage(run, rounds, training)
    theirs = [] if program is None else program.peers(subject, batch, used)
    timings = []
    for what, work in ours.items():
        others = {peer.name: peer.work(what == "training step") for peer in theirs}
        say(f"timing {what}" + (f", and {program.name}'s" if program else ""))
        timings.append(in_turns(one, what, work, others, rounds, _flops(model, batch, what)))
    return Result(
        model=model.name,
        options=model.options,
        batch=batch,
        backend=one.name,
        threads=used,
        precision=precision,
        machine=machine(one, [] if program is None else [program]),
        roofline=roofline,
        rows=rows,
        timings=timings,
        first_calls=first,
        peak_memory=peak,
        compare=compare,
        subject=subject.title,
        zero_inputs=zero_inputs(run) if subject.weights is not None else {},
    )


_PAUSE = 0.1  # seconds between programs


def in_turns(b: Backend, what, ours, others, rounds: int, flops: float) -> Timing:
    """Time `ours` and the `others` by name, one after the other, `rounds` times."""
    runs = {"": ours} | others
    for work in others.values():
        work()
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, work in runs.items():
            taken[name].append(_one(b, work))
    medians = {name: median(times) for name, times in taken.items()}
    return Timing(what, medians.pop(""), flops, medians)


def _one(b: Backend, work: Callable[[], None], least: float = 0.05) -> float:
    """Seconds per call: the median of as many calls as fit into `least` seconds.

    A pause comes first, and a first call is not counted: threads of the program before may still be
    waiting for work, which takes time from the cores.
    """
    times: list[float] = []
    time.sleep(_PAUSE)
    work()
    b.synchronize()
    start = time.perf_counter()
    while not times or time.perf_counter() - start < least:
        times.append(seconds(b, work))
    return median(times)


def _flops(model: Model, batch: int, what: str) -> float:
    """Two per multiply-add; backward has twice as many, minus the gradient of the images."""
    counts = [row.connections for row in model.network.rows()]
    once = 2.0 * batch * sum(counts)
    first = next(count for count in counts if count)
    return once if what == "inference" else 3 * once - 2.0 * batch * first


def _peak_memory(b: Backend) -> int | None:
    on_device = b.peak_memory()
    if on_device is not None:
        return on_device
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if platform.system() == "Darwin" else 1024)


def machine(b: Backend, programs: Sequence[Program]) -> dict[str, str]:
    """The hardware and the versions of the libraries."""
    found = {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "system": platform.system(),
        "python": platform.python_version(),
        **{package: version(package) for package in ("numpy", "numba")},
        **_blas(b),
    }
    found |= {program.key: program.version() for program in programs}
    if b.name == "cupy":
        from minialex.backends.cuda import device

        found |= {name: str(value) for name, value in device.describe(b.device).items()}
    return found


def _blas(b: Backend) -> dict[str, str]:
    """The OpenBLAS kernels that matrix products use on the CPU."""
    if b.name != "numba":
        return {}
    from minialex.utils.threads import load_blas

    return {"OpenBLAS": load_blas()}


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if "model name" in line]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
