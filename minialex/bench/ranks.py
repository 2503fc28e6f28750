"""`minialex bench --ranks 1,2`: training steps on several processes that MPI connects.

Each number of ranks is a job of `mpirun`, in which this module measures and the first rank prints
JSON; in a job that was already started, it measures that one.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from math import prod
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from minialex import losses
from minialex.bench import scaling
from minialex.errors import InputError
from minialex.layers import Mode
from minialex.models import Model
from minialex.optim import SGD, Rates
from minialex.parallel import DeviceConfig, Devices
from minialex.parallel.tree_sum import nodes_of
from minialex.parallel.world import World, open_world
from minialex.training.step import TrainStep
from minialex.tree import map_tree
from minialex.utils.launcher import launched
from minialex.utils.table import plain

_SHARES = 8  # micro-batches in a batch, as in training

Say = Callable[[str], None]


@dataclass(frozen=True)
class Measured:
    """Training steps on so many ranks; seconds are medians over rounds, of the slowest rank.

    `waiting`: after the backward pass, for the sums over the ranks; `alone`: the same sums with
    nothing to hide behind; `empty`: sums of as many arrays of a few bytes. `sent` are the bytes
    that a rank sends in a step. `ready` has each layer's gradient: when it is ready in a step that
    waits for nobody, and its bytes; `backward` is when the last of them is.
    """

    ranks: int
    machines: int
    threads: int | None
    step: float
    waiting: float
    alone: float
    empty: float
    sent: int
    backward: float
    ready: list[scaling.Layer]

    @property
    def hidden(self) -> float | None:
        """The share of the exchange that the backward pass hides; None on one rank."""
        return max(0.0, 1 - self.waiting / self.alone) if self.alone else None

    @property
    def model(self) -> scaling.Step:
        """One rank's step, as the model takes it."""
        rest = max(0.0, self.step - self.waiting - self.backward)
        return scaling.Step(self.backward, rest, self.ready)


@dataclass(frozen=True)
class Comparison:
    """All numbers of ranks with the same batch, and the network that predictions are for."""

    model: str
    backend: str
    batch: int
    micro_batch: int
    measured: list[Measured]
    network: scaling.Network | None
    given: bool  # whether the user gave the network's latency and bandwidth


def compare(
    model: Model,
    ranks: Sequence[int],
    batch: int,
    words: Sequence[str],
    where: DeviceConfig,
    *,
    rounds: int = 5,
    network: scaling.Network | None = None,
    say: Say = lambda text: None,
) -> Comparison | None:
    """Measure `model` on each number of ranks; None on all ranks of a job but the first.

    `words` are the command's arguments, with which the jobs are started.
    """
    micro = -(-batch // _SHARES)
    count = -(-batch // micro)
    for one in ranks:
        if one > count:
            raise InputError(
                f"{one} ranks cannot share a batch of {batch} images in {count} micro-batches of "
                f"{micro}: choose a larger --batch-size"
            )
    if launched():
        world = open_world()
        with world.ending_together():
            if tuple(ranks) != (world.size,):
                raise InputError(
                    f"this job has {world.size} rank{'s' * (world.size != 1)}: give --ranks "
                    f"{world.size}, or start the command without mpirun"
                )
            found = [measure(model, batch, micro, where, world, rounds)]
        if not world.first:
            return None
    else:
        found = [_job(one, words, say) for one in ranks]
    given = network is not None
    if network is None:
        network = next((_network(one) for one in reversed(found) if one.ranks > 1), None)
    backend = where.open(model.network).name
    return Comparison(model.name, backend, batch, micro, found, network, given)


def _network(measured: Measured) -> scaling.Network:
    sizes = [layer.bytes for layer in measured.ready]
    return scaling.fitted(measured.ranks, sizes, measured.empty, measured.alone)


# ---------------------------------------------------------------------------------- jobs


def _job(ranks: int, words: Sequence[str], say: Say) -> Measured:
    """Measure in a job of so many ranks on this machine."""
    start = _mpirun()
    plural = "s" * (ranks != 1)
    say(f"{ranks} rank{plural} ...")
    command = [*start, "-n", f"{ranks}", sys.executable, "-m", "minialex", *words]
    done = subprocess.run(
        [*command, "--ranks", f"{ranks}", "--json"], stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        raise InputError(
            f"the job of {ranks} rank{plural} ended with status {done.returncode}: its errors are "
            f"above, and its command was {' '.join(command)}"
        )
    [row] = _document(done.stdout)["measured"]
    row = {name: row[name] for name in Measured.__dataclass_fields__}
    return Measured(**{**row, "ready": [scaling.Layer(**one) for one in row["ready"]]})


def _document(output: str) -> dict[str, Any]:
    """The JSON document in a job's output, in which mpirun may write too."""
    return json.JSONDecoder().raw_decode(output, output.index("{"))[0]


def _mpirun() -> list[str]:
    """The start of a command for several processes on this machine."""
    beside = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    found = shutil.which("mpirun", path=beside)
    if found is None:
        raise InputError("--ranks needs mpirun and mpi4py: pip install 'minialex[mpi]'")
    version = subprocess.run([found, "--version"], capture_output=True, text=True).stdout
    of_open_mpi = "Open MPI" in version or "prte" in version.lower()
    # the ranks divide the cores among their threads by themselves
    return [found, "--oversubscribe", "--bind-to", "none"] if of_open_mpi else [found]


# ---------------------------------------------------------------------------------- one job


def measure(
    model: Model, batch: int, micro: int, where: DeviceConfig, world: World, rounds: int = 5
) -> Measured:
    """Training steps on the ranks of `world`, all of which get the result."""
    devices = where.open(model.network, True, world)
    step = TrainStep(
        model.network,
        devices,
        losses.SoftmaxCrossEntropy(),
        SGD(model.recipe),
        micro_batch=micro,
        world=world,
    )
    state, rates = step.init(), Rates(model.recipe.lr, model.recipe.lr, 0.0)
    drawn = np.random.default_rng(0)
    images = drawn.standard_normal((batch, *model.network.input_shape), np.float32)
    labels = np.arange(batch) % model.classes
    shapes = model.network.parameter_shapes()
    layers = [layer for layer in shapes if layer in state.params][::-1]
    count = -(-batch // micro)

    step(state, (images, labels), rates)  # compiles what is not on disk
    ready = _ready(step, state.params, images[:micro], labels[:micro], layers)
    own, taken = len(world.share(count)), []
    sent = world.bytes_sent
    for _ in range(rounds):
        step.take_exchange_seconds()
        seconds = _seconds(world, lambda: step(state, (images, labels), rates))
        taken.append((seconds, step.take_exchange_seconds()))
    sent = (world.bytes_sent - sent) // rounds
    whole = {layer: shapes[layer] for layer in layers}
    tiny: dict[str, dict[str, tuple[int, ...]]] = {layer: {"weight": (1,)} for layer in layers}
    alone, empty = (
        median(_seconds(world, partial(_exchange, step, of, count)) for _ in range(rounds))
        for of in (whole, tiny)
    )
    several = world.size > 1
    own_times = np.median(taken, axis=0), (alone * several, empty * several, sent)
    own_ready = [(own - 1) * ready[-1] + at for at in ready]
    every = world.gather_numbers(np.concatenate([*own_times, own_ready]))
    taken_by_step, waiting, alone, empty, most, *slowest = every.max(axis=0).tolist()
    sizes = [4 * sum(map(prod, shapes[layer].values())) for layer in layers]
    return Measured(
        ranks=world.size,
        machines=world.machines,
        threads=getattr(devices.backends[0], "threads", None),
        step=taken_by_step,
        waiting=waiting,
        alone=alone,
        empty=empty,
        sent=int(most),
        backward=slowest[-1],
        ready=[scaling.Layer(*one) for one in zip(layers, slowest, sizes, strict=True)],
    )


def _seconds(world: World, work: Callable[[], object]) -> float:
    """Seconds of what all ranks begin at the same time."""
    world.gather_numbers(np.zeros(1))
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _ready(
    step: TrainStep, params: Any, images: np.ndarray, labels: np.ndarray, layers: Sequence[str]
) -> list[float]:
    """Seconds from the start of a micro-batch until each layer's gradient is on the host."""
    devices: Devices = step.devices

    def once() -> list[float]:
        times: dict[str, float] = {}
        start = time.perf_counter()

        def note(layer: str, own: Any) -> None:
            for x in own.values():
                devices.to_numpy(x)
            times[layer] = time.perf_counter() - start

        inputs = step.feed.inputs((images, labels), 0, 0.0)
        mode = Mode(training=True)
        loss, _ = devices.gradients(params, inputs, labels, step.loss, mode, 1.0, on_gradients=note)
        loss()
        return [times[layer] for layer in layers]

    rounds = [once() for _ in range(3)]
    return np.median(rounds, axis=0).tolist()


def _exchange(step: TrainStep, shapes: dict[str, dict[str, tuple[int, ...]]], count: int) -> None:
    """The sums of a step, of zeros."""
    world = step.world

    def work() -> None:
        sums = world.exchange(step.devices, shapes, "float32", count, step.link)
        if sums is None:
            return
        zeros = step.devices.to_devices(map_tree(lambda shape: np.zeros(shape, np.float32), shapes))
        for layer, own in zeros.items():
            sums.start(layer, dict.fromkeys(nodes_of(count, world.share(count)), own))
        sums.finish()

    world.together(work)


# ---------------------------------------------------------------------------------- results


def document(found: Comparison) -> dict[str, Any]:
    """The comparison for JSON, with the model's predictions."""
    rows = [{**asdict(one), "hidden": one.hidden} for one in found.measured]
    return {**asdict(found), "measured": rows, "predicted": _predicted(found)}


def _predicted(found: Comparison) -> list[dict[str, float]]:
    """Rows of the model, each rank computing as many images as one of the fewest measured."""
    if found.network is None:
        return []
    least = min(found.measured, key=lambda one: one.ranks)
    images, alone = found.batch / least.ranks, scaling.step_seconds(least.model, found.network, 1)
    rows = []
    for ranks in scaling.PREDICTED:
        seconds = scaling.step_seconds(least.model, found.network, ranks)
        rows.append(
            {
                "ranks": ranks,
                "batch": round(ranks * images),
                "step": seconds,
                "images_per_second": ranks * images / seconds,
                "efficiency": alone / seconds,
            }
        )
    return rows


def text(found: Comparison) -> str:
    """Both tables."""
    one = next((row for row in found.measured if row.ranks == 1), None)
    rows = [
        (
            f"{row.ranks}",
            "" if row.threads is None else f"{row.threads}",
            f"{1e3 * row.step:,.1f}",
            f"{found.batch / row.step:,.1f}",
            "" if one is None else f"{one.step / row.step:.0%}",
            f"{row.sent / 1e6:,.1f}",
            f"{1e3 * row.waiting:,.1f}",
            "" if row.hidden is None else f"{row.hidden:.0%}",
        )
        for row in found.measured
    ]
    head = ("ranks", "threads", "step ms", "images/s", "efficiency", "sent MB", "waiting ms")
    lines = [
        f"{found.model}, batch {found.batch} in micro-batches of {found.micro_batch}, "
        f"{found.backend}",
        plain((*head, "hidden"), rows, ">" * 8),
        "efficiency: of one rank with all cores; sent: by each rank and step; waiting: for the "
        "sums after the\nbackward pass; hidden: the share of the sums' time that the backward pass "
        "hides",
    ]
    if found.network is None:
        return "\n".join([*lines, "no model: it needs two ranks, or --latency and --bandwidth"])
    of = "given" if found.given else "measured between these ranks"
    predicted = [
        (
            f"{row['ranks']}",
            f"{row['batch']:,}",
            f"{1e3 * row['step']:,.1f}",
            f"{row['images_per_second']:,.1f}",
            f"{row['efficiency']:.0%}",
        )
        for row in _predicted(found)
    ]
    return "\n".join(
        [
            *lines,
            "",
            f"model: more ranks like this one, {1e6 * found.network.latency:,.1f} µs a message and "
            f"{found.network.bandwidth / 1e9:,.2f} GB/s ({of})",
            plain(("ranks", "batch", "step ms", "images/s", "efficiency"), predicted, ">" * 5),
        ]
    )
