"""run the paper's experiments and report them beside the published numbers

Every experiment is a file of experiments/paper; what is done is not done again.
"""

import argparse
import shlex
import signal
from pathlib import Path
from typing import Any

from minialex.cli.common import add_backend, at_least
from minialex.errors import InputError

EXAMPLES = (
    "minialex reproduce --list",
    "minialex reproduce relu-and-tanh --scale tiny --out runs/paper",
    "minialex reproduce --out runs/paper --report-only",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="EXPERIMENT", help="which (default: all)")
    parser.add_argument("--list", action="store_true", help="name the experiments and end")
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        help="images of classes; may be given twice, CIFAR-10 beside photographs (default: drawn)",
    )
    parser.add_argument(
        "--scale",
        default="small",
        help="small (hours on a CPU, less on a GPU), full (the paper's), or tiny (a minute: a "
        "rehearsal that shows nothing)",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/paper"), metavar="DIR", help="(default: runs/paper)"
    )
    parser.add_argument("--seeds", type=at_least(1), metavar="N", help="runs of each variant")
    parser.add_argument("--epochs", type=at_least(1), metavar="N", help="in place of the scale's")
    parser.add_argument(
        "--pretrain", metavar="PATH", help="more classes to pre-train on (default: drawn ones)"
    )
    parser.add_argument("--report-only", action="store_true", help="compute nothing: report anew")
    add_backend(parser)


def run(
    names: list[str],
    list: bool,
    data: list,
    scale: str,
    out: Path,
    seeds: int | None,
    epochs: int | None,
    pretrain: str | None,
    report_only: bool,
    backend: str,
    devices: Any,
    precision: str,
    threads: int | None,
) -> int:
    from minialex.data.sources.open import existing_folder, is_builtin
    from minialex.experiments import runner
    from minialex.experiments.context import Asked
    from minialex.experiments.registry import chosen

    if list:
        for one in chosen(names):
            print(f"{one.name:20} {one.about}")
        return 0
    _needs_matplotlib()
    if report_only:
        print(f"report: {runner.report(out)}")
        return 0
    if scale == "full" and not data:
        raise InputError("--scale full is the paper's own: name its images with --data")

    def source(one: str) -> str:
        return one if is_builtin(one) else str(existing_folder(one))

    sources = tuple(source(one) for one in data)
    more = None if pretrain is None else source(pretrain)
    where = {"backend": backend, "devices": devices, "precision": precision, "threads": threads}
    asked = Asked(sources, scale, seeds, epochs, more, where)
    path, stopped = runner.reproduce(names, asked, out)
    print(f"report: {path}")
    if stopped is None:
        return 0
    options = [("--data", one) for one in data]
    options += [("--scale", scale), ("--seeds", seeds), ("--epochs", epochs)]
    options += [("--pretrain", pretrain), ("--out", out)]
    given = [str(word) for pair in options if pair[1] is not None for word in pair]
    line = shlex.join(["minialex", "reproduce", *names, *given])
    print(f"stopped by {stopped}, state saved; go on with: {line}")
    return 128 + signal.Signals[stopped]


def _needs_matplotlib() -> None:
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise InputError(
            "the report needs Matplotlib: install it with pip install 'minialex[figures]'"
        )
