"""train a network on your images, or on built-in ones

Every option that is not given is left to `minialex.train`, whose keyword arguments these are.
"""

import argparse
import shlex
import signal
from argparse import SUPPRESS, BooleanOptionalAction
from pathlib import Path

from minialex.cli.common import add_json, devices, option, print_json
from minialex.errors import InputError

EXAMPLES = (
    "minialex train --data shapes:400 --model alexnet-64 --epochs 2 --out runs/shapes",
    "minialex train --resume runs/shapes --epochs 3",
    "minialex train --from runs/shapes --replace-classifier --data shapes:400 --lr 0.001 "
    "--epochs 1 --out runs/tuned",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(option=None)

    def add(title: str):
        group = parser.add_argument_group(title)

        def argument(name, kind=str, help=None, **more):
            if kind is bool:
                more["action"] = BooleanOptionalAction
            else:
                more["type"] = kind
            group.add_argument(name, default=SUPPRESS, help=help, **more)

        return argument

    what = add("what")
    what("--data", help="a folder: of classes, of archives, packed; shapes or shapes:N (built in)")
    what("--model", help="a network by name; `minialex summary --variants` lists them")
    what("--option", option, "of the network, such as towers=1", action="append", metavar="N=V")
    what(
        "--from", Path, "start from these weights and their network", dest="initial", metavar="PATH"
    )
    what("--replace-classifier", bool, "with --from: a new last layer, for other classes")
    what("--val-fraction", float, "share held out where the data has no val/", metavar="F")
    what("--allow-upscaling", bool, "enlarge images that are smaller than the network's input")

    how = add("how (default: the network's own recipe)")
    how("--epochs", int, "passes over the training images", metavar="N")
    how("--batch-size", int, "images a step, on all devices together", metavar="N")
    how("--lr", float, "learning rate", metavar="RATE")
    how("--schedule", str, "plateau, step, cosine, constant, 2012 ...", metavar="NAME")
    how("--momentum", float, metavar="M")
    how("--weight-decay", float, metavar="D")
    how("--loss", str, "softmax or hinge", metavar="NAME")
    how("--margin", float, "of the hinge loss", metavar="M")
    how("--mirror", bool, "mirror half of the images")
    how("--crops", bool, "random crops; else the centre")
    how("--colour-noise", float, "of the PCA colour shift, in standard deviations", metavar="A")
    how("--dropout", bool, "drop units in training")
    how("--shallow", str, "a trained vgg-11 that a deeper VGG starts from", metavar="PATH")
    how("--dtype", str, "float32 or float64", metavar="NAME")
    how("--seed", int, "of everything random", metavar="N")

    run = add("the run")
    run("--out", Path, "the run's folder (default: a new one under runs/)", metavar="DIR")
    run("--resume", Path, "go on with the run in this folder, as it was started", metavar="DIR")
    run("--backend", str, "numpy, ... (default: the fastest here)", metavar="NAME")
    run("--devices", devices, "which of its devices; several train together", metavar="N,N")
    run("--parallel", str, "several devices as towers, data or hybrid", metavar="HOW")
    run("--precision", str, "fp32, tf32, bf16 or fp16 (CUDA)", metavar="TYPE")
    run("--threads", int, "of the CPU (default: the cores this process may use)", metavar="N")
    run("--workers", int, "threads that read images", metavar="N")
    run("--checkpoint-every", float, "seconds between saved states", metavar="S")
    run("--max-steps", int, "stop, resumable, after so many steps in all", metavar="N")
    add_json(parser)
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def run(json: bool, quiet: bool, option: list | None, resume: Path | None = None, **given) -> int:
    import minialex

    if given.get("replace_classifier") and "initial" not in given and resume is None:
        raise InputError("--replace-classifier goes with --from CHECKPOINT: name the weights")
    if option:
        given["model_options"] = dict(option)
    if resume is not None:
        given = {**_stored(resume, given), **given, "out": resume, "resume": True}
    result = minialex.train(given.pop("data", None), **given, progress=not (json or quiet))
    if json:
        summary = {"run_dir": str(result.run_dir), "interrupted": result.interrupted}
        print_json({**summary, "history": result.history, "skipped": result.skipped})
    elif not quiet and not result.interrupted:
        folder = shlex.quote(str(result.run_dir))
        print(f"how good is it: minialex evaluate --model-file {folder}")
        print(f"ask it:         minialex predict PHOTO --model-file {folder}")
    if result.interrupted:
        return 128 + signal.Signals[result.interrupted]
    return 0


def _stored(folder: Path, given: dict) -> dict:
    """The arguments that the run in `folder` was started with."""
    from minialex.training.run_folder import read_config

    if "out" in given:
        raise InputError(f"--resume {folder} goes on in that folder: leave out --out")
    settings = read_config(folder)["settings"]
    if settings.get("data") is None:
        raise InputError(
            f"the run in {folder} was started from Python on data of its own: resume it from there"
        )
    return settings
