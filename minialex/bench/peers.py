"""minialex and other programs in one table: training steps or inference at several batch sizes."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from minialex.bench import measure
from minialex.bench.network import Run, zero_inputs, zeros_text
from minialex.bench.program import Program
from minialex.bench.programs import PROGRAMS
from minialex.bench.subject import Subject
from minialex.errors import InputError
from minialex.parallel import DeviceConfig
from minialex.utils.table import plain

_TORCH = "PyTorch runs its own initial weights: its time does not depend on them"


@dataclass(frozen=True)
class Row:
    """Median seconds per batch: ours, and each program's by its key, in its fastest way.

    `zero_inputs` is what the function of that name finds, if the weights are trained.
    """

    batch: int
    seconds: float
    peers: dict[str, float]
    zero_inputs: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """All batch sizes; `left_out` says why programs that were asked for are missing."""

    model: str
    options: dict[str, Any]
    what: str
    backend: str
    precision: str
    threads: int | None
    machine: dict[str, str]
    rows: list[Row]
    left_out: list[str]
    subject: str | None = None


def compare(
    subject: Subject,
    batches: Sequence[int],
    programs: Sequence[str],
    where: DeviceConfig,
    *,
    training: bool = False,
    rounds: int = 5,
    say: Callable[[str], None] = lambda text: None,
) -> Comparison:
    """Time a network, ours and the programs' in turns, at each batch size.

    Programs that are not installed or cannot train are left out; InputError if all of them are.
    """
    chosen, left_out = _usable(programs, training, where.precision)
    opened = where.open(subject.model.network)
    one = opened.backends[0]
    threads = getattr(one, "threads", None)
    what = "training step" if training else "inference"
    rows = []
    for batch in batches:
        say(f"timing batches of {batch}")
        run = Run(opened, subject, batch)
        ways = [(peer, made) for peer in chosen for made in peer.peers(subject, batch, threads)]
        others = {f"{i}": made.work(training) for i, (_, made) in enumerate(ways)}
        ours = run.train if training else run.infer
        ours()
        timing = measure.in_turns(one, what, ours, others, rounds, 0.0)
        best = {
            program.key: min(
                timing.peers[f"{i}"] for i, (peer, _) in enumerate(ways) if peer == program
            )
            for program in chosen
        }
        zeros = zero_inputs(run) if subject.weights is not None else {}
        rows.append(Row(batch, timing.seconds, best, zeros))
    return Comparison(
        model=subject.model.name,
        options=subject.model.options,
        subject=subject.title,
        what=what,
        backend=one.name,
        precision=where.precision,
        threads=threads,
        machine=measure.machine(one, chosen),
        rows=rows,
        left_out=left_out,
    )


def _usable(
    programs: Sequence[str], training: bool, precision: str
) -> tuple[list[Program], list[str]]:
    chosen, left_out = [], []
    for key in dict.fromkeys(programs):
        try:
            PROGRAMS[key].require(training)
            chosen.append(PROGRAMS[key].at(precision))
        except InputError as error:
            left_out.append(str(error))
    if not chosen and left_out:
        raise InputError("; ".join(left_out))
    return chosen, left_out


def text(found: Comparison) -> str:
    """A table: a row for each batch size, a program's time and how many times ours it is."""
    options = "".join(f", {name}={value}" for name, value in found.options.items())
    threads = "" if found.threads is None else f", {found.threads} threads"
    keys = list(found.rows[0].peers)
    names = {key: PROGRAMS[key].at(found.precision).name for key in keys}
    header = ["batch", "minialex", "images/s"]
    header += [cell for key in keys for cell in (names[key], "ratio")]
    rows = []
    for row in found.rows:
        cells = [f"{row.batch}", f"{1e3 * row.seconds:,.1f}", f"{row.batch / row.seconds:,.1f}"]
        for key in keys:
            seconds = row.peers[key]
            cells += [f"{1e3 * seconds:,.1f}", f"{seconds / row.seconds:.2f}"]
        rows.append(cells)
    lines = [
        f"{found.model}{options}, {found.what}, {found.backend}, {found.precision}{threads}",
        "; ".join(f"{name} {value}" for name, value in found.machine.items()),
        *([found.subject] if found.subject else []),
        "milliseconds per batch; ratio: the program's time divided by minialex's",
        "",
        plain(header, rows, ">" * len(header)),
        *([_TORCH] if found.subject and "torch" in keys else []),
        *[
            f"batch {row.batch}: {zeros_text(row.zero_inputs)}"
            for row in found.rows
            if row.zero_inputs
        ],
        *[f"left out: {reason}" for reason in found.left_out],
    ]
    return "\n".join(lines)


def document(found: Comparison) -> dict[str, Any]:
    """The comparison as JSON."""
    return asdict(found)
