"""train a network on your images, or on built-in ones

The options are the arguments of `minialex.train`, which has their defaults.
"""

import argparse
import shlex
import signal
import sys
from argparse import SUPPRESS
from pathlib import Path
from typing import Any

from minialex.cli.common import add_json, at_least, print_json
from minialex.errors import InputError
from minialex.utils.launcher import launched_as
from minialex.utils.options import add_options
from minialex.utils.paths import expanded

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
        type=expanded,
        default=SUPPRESS,
        metavar="DIR",
        help="run folder (default: a new one under runs/)",
    )
    add(
        "--resume",
        type=expanded,
        default=SUPPRESS,
        metavar="DIR",
        help="continue the run in this folder, with the settings it was started with",
    )
    other = parser.add_argument_group("instead of one training")
    other.add_argument(
        "--folds",
        type=at_least(2),
        metavar="K",
        help="cross-validation: train K networks, each evaluated on the images it has not seen",
    )
    other.add_argument(
        "--find-lr",
        action="store_true",
        help="suggest a learning rate from 100 steps with a rising one; nothing is saved",
    )
    add_json(parser)
    parser.add_argument("--verbose", action="store_true", help="print layer statistics too")
    parser.add_argument("--quiet", action="store_true", help="print errors only")


def run(
    json: bool,
    quiet: bool,
    verbose: bool,
    folds: int | None,
    find_lr: bool,
    resume: Path | None = None,
    **given: Any,
) -> int:
    import minialex

    for name in ("model_options", "layer_rates"):
        if name in given:
            given[name] = dict(given[name])
    quietly = [("--quiet", quiet), ("--json", json), ("--folds", folds), ("--find-lr", find_lr)]
    for option, chosen in quietly:
        if verbose and chosen:
            raise InputError(f"--verbose has no effect with {option}: leave out one")
    if folds is not None and find_lr:
        raise InputError("--folds and --find-lr cannot be used together: leave out one")
    if resume is not None and (folds is not None or find_lr):
        raise InputError("--folds and --find-lr start new runs: leave out --resume")
    if find_lr:
        return _find_lr(json, quiet, given)
    if folds is not None:
        return _cross_validate(json, quiet, folds, given)
    if resume is not None:
        if "out" in given:
            raise InputError(f"--resume {resume} continues in that folder: leave out --out")
        given |= {"out": resume, "resume": True}
    result = minialex.train(
        given.pop("data", None), **given, progress=not (json or quiet), verbose=verbose
    )
    if launched_as()[1] > 0:  # the first of several processes prints
        pass
    elif json:
        summary = {"run_dir": str(result.run_dir), "interrupted": result.interrupted}
        print_json({**summary, "history": result.history, "skipped": result.skipped})
    elif not quiet and not result.interrupted:
        from minialex.models.registry import PLUGINS

        trained = shlex.quote(str(result.run_dir)) + PLUGINS.again(result.classifier.model.name)
        commands = [f"minialex predict PHOTO --model-file {trained}"]
        if any(row["val_loss"] is not None for row in result.history):
            commands.insert(0, f"minialex evaluate --model-file {trained}")
        print("next: " + "\n      ".join(commands))
    if result.interrupted:
        return 128 + signal.Signals[result.interrupted]
    return 0


def _find_lr(json: bool, quiet: bool, given: dict[str, Any]) -> int:
    import minialex
    from minialex.training.recovery import rate_options

    given.pop("out", None)
    found = minialex.find_lr(given.pop("data", None), progress=not (json or quiet), **given)
    if json:
        print_json(
            {
                "best": found.best,
                "optimizer": found.optimizer,
                "rates": found.rates,
                "losses": found.losses,
            }
        )
    elif found.best is None:
        print(f"{found}\nthe loss fell too little to suggest a learning rate: keep the current one")
    else:
        print(f"{found}\nsuggested learning rate: {rate_options(found.optimizer, found.best)}")
    return 0


def _cross_validate(json: bool, quiet: bool, folds: int, given: dict[str, Any]) -> int:
    import minialex

    data = given.pop("data", None)
    found = minialex.cross_validate(data, folds=folds, progress=not (json or quiet), **given)
    if found.interrupted:
        if json or quiet:
            folder = shlex.quote(str(found.folder))
            print(f"{found.interrupted}: continue with --out {folder}", file=sys.stderr)
        return 128 + signal.Signals[found.interrupted]
    if json:
        assert found.evaluation is not None
        whole = found.evaluation
        print_json(
            {
                "folder": str(found.folder),
                "accuracy": whole.accuracy,
                "interval": whole.interval,
                "folds": [fold.accuracy for fold in found.folds],
            }
        )
    else:
        print(found)
    return 0
