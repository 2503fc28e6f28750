"""run the paper's experiments and write a report with the published numbers

Each experiment is a module of minialex.experiments.paper. Finished results are stored in --out and
reused.
"""

import argparse
import shlex
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from minialex.cli.common import add_device_options, at_least
from minialex.errors import InputError
from minialex.utils.paths import expanded

if TYPE_CHECKING:
    from minialex.parallel import DeviceConfig

EXAMPLES = (
    "minialex reproduce --list",
    "minialex reproduce relu-and-tanh --scale tiny --out runs/paper",
    "minialex reproduce --out runs/paper --report-only",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "names",
        nargs="*",
        metavar="EXPERIMENT",
        help="name, or a Python file of your own (default: all)",
    )
    parser.add_argument("--list", action="store_true", help="list the experiments and exit")
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        help="a data set; repeat it for photographs and CIFAR-10 (default: built-in drawings)",
    )
    parser.add_argument(
        "--scale",
        default="small",
        help="small (default; hours on a CPU, less on a GPU), full (as in the paper), or tiny (two "
        "minutes, only to test that everything runs)",
    )
    parser.add_argument(
        "--out",
        type=expanded,
        default=Path("runs/paper"),
        metavar="DIR",
        help="folder for results and report (default: runs/paper)",
    )
    parser.add_argument(
        "--seeds", type=at_least(1), metavar="N", help="number of seeds per variant"
    )
    parser.add_argument("--epochs", type=at_least(1), metavar="N", help="epochs per run")
    parser.add_argument(
        "--pretrain",
        metavar="PATH",
        help="data set with more classes, to pre-train on (default: built-in drawings)",
    )
    parser.add_argument(
        "--keep",
        type=expanded,
        metavar="DIR",
        help="reuse the results in DIR too, and copy new ones there without run folders: small "
        "files, to continue on another machine",
    )
    parser.add_argument("--report-only", action="store_true", help="only rewrite the report")
    add_device_options(parser)


def run(
    names: list[str],
    list: bool,
    data: list,
    scale: str,
    out: Path,
    seeds: int | None,
    epochs: int | None,
    pretrain: str | None,
    keep: Path | None,
    report_only: bool,
    device_config: "DeviceConfig",
) -> int:
    from minialex.data.sources.open import existing_folder, is_builtin
    from minialex.experiments import runner
    from minialex.experiments.options import Options
    from minialex.experiments.registry import select

    if list:
        for one in select(names):
            print(f"{one.name:20} {one.about}")
        return 0
    _require_packages()
    if report_only:
        select(names)
        print(f"report: {runner.report(out)}")
        return 0
    if scale == "full" and not data:
        raise InputError("--scale full has no built-in data: give its images with --data")

    def source(one: str) -> str:
        return one if is_builtin(one) else str(existing_folder(one))

    sources = tuple(source(one) for one in data)
    more = None if pretrain is None else source(pretrain)
    names_of = ("backend", "devices", "precision", "threads")
    device = {name: getattr(device_config, name) for name in names_of}
    options = Options(sources, scale, seeds, epochs, more, device)
    path, stopped = runner.reproduce(names, options, out, keep=keep)
    print(f"report: {path}")
    if stopped is None:
        return 0
    given = [("--data", one) for one in data]
    given += [("--scale", scale), ("--seeds", seeds), ("--epochs", epochs)]
    given += [("--pretrain", pretrain), ("--keep", keep), ("--out", out)]
    given += [("--devices", device["devices"] and ",".join(map(str, device["devices"])))]
    given += [("--threads", device["threads"])]
    usual = {"backend": "auto", "precision": "fp32"}
    given += [(f"--{name}", device[name]) for name, one in usual.items() if device[name] != one]
    words = [str(word) for pair in given if pair[1] is not None for word in pair]
    line = shlex.join(["minialex", "reproduce", *names, *words])
    print(f"stopped by {stopped}, state saved; continue with: {line}")
    return 128 + signal.Signals[stopped]


def _require_packages() -> None:
    from importlib.util import find_spec

    missing = [name for name in ("matplotlib", "jinja2") if find_spec(name) is None]
    if missing:
        raise InputError(
            f"the report needs {' and '.join(missing)}: pip install 'minialex[figures]'"
        )
