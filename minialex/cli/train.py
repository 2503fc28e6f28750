"""train a network on your images, or on built-in ones

The options are the arguments of `minialex.train`; one that is not given is left to it.
"""

import argparse
import shlex
import signal
from argparse import SUPPRESS
from pathlib import Path
from typing import Any

from minialex.cli.common import add_json, print_json
from minialex.errors import InputError
from minialex.utils.options import add_options

EXAMPLES = (
    "minialex train --data shapes:400 --model alexnet-64 --epochs 2 --out runs/shapes",
    "minialex train --resume runs/shapes --epochs 3",
    "minialex train --from runs/shapes --replace-classifier --data shapes:400 --lr 0.001 "
    "--epochs 1 --out runs/tuned",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """An option for each field of `TrainConfig` and `DeviceConfig`, and the run's own."""
    from minialex.parallel import DeviceConfig
    from minialex.training.config import TrainConfig

    add_options(parser, TrainConfig, DeviceConfig)
    add = parser.add_argument_group("the run's folder").add_argument
    add(
        "--out",
        type=Path,
        default=SUPPRESS,
        metavar="DIR",
        help="run folder (default: a new one under runs/)",
    )
    add(
        "--resume",
        type=Path,
        default=SUPPRESS,
        metavar="DIR",
        help="continue the run in this folder, with the settings it was started with",
    )
    add_json(parser)
    parser.add_argument("--verbose", action="store_true", help="print layer statistics too")
    parser.add_argument("--quiet", action="store_true", help="print errors only")


def run(json: bool, quiet: bool, verbose: bool, resume: Path | None = None, **given: Any) -> int:
    import minialex

    if given.get("replace_classifier") and "initial" not in given and resume is None:
        raise InputError("--replace-classifier goes with --from CHECKPOINT: name the weights")
    if "model_options" in given:
        given["model_options"] = dict(given["model_options"])
    if resume is not None:
        if "out" in given:
            raise InputError(f"--resume {resume} continues in that folder: leave out --out")
        given |= {"out": resume, "resume": True}
    result = minialex.train(
        given.pop("data", None), **given, progress=not (json or quiet), verbose=verbose
    )
    if json:
        summary = {"run_dir": str(result.run_dir), "interrupted": result.interrupted}
        print_json({**summary, "history": result.history, "skipped": result.skipped})
    elif not quiet and not result.interrupted:
        folder = shlex.quote(str(result.run_dir))
        print(f"next: minialex evaluate --model-file {folder}")
        print(f"      minialex predict PHOTO --model-file {folder}")
    if result.interrupted:
        return 128 + signal.Signals[result.interrupted]
    return 0
