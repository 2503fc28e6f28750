"""write results.html of a run: curves, accuracy by class, mistakes, kernels

The end of a training does the same.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from minialex.cli.common import (
    add_device_options,
    add_own_model,
    add_workers,
    at_least,
    newest_run,
)
from minialex.utils.paths import expanded

if TYPE_CHECKING:
    from minialex.parallel import DeviceConfig

EXAMPLES = ("minialex report runs/shapes",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run_folder",
        nargs="?",
        type=expanded,
        metavar="RUN",
        help="run folder (default: the newest run in runs/)",
    )
    parser.add_argument(
        "--data", metavar="PATH", help="where the run's images lie now, if they were moved"
    )
    parser.add_argument(
        "--images",
        type=at_least(0),
        default=5000,
        metavar="N",
        help="validation images to judge at most, evenly spaced (default: 5000; 0: all)",
    )
    add_own_model(parser)
    parser.add_argument(
        "--augment",
        metavar="FILE.py:NAME",
        help="code of the run's augmentation, if it is your own",
    )
    add_workers(parser)
    add_device_options(parser)


def run(
    run_folder: Path | None,
    data: str | None,
    images: int,
    workers: int | None,
    augment: str | None,
    device_config: "DeviceConfig",
) -> None:
    from minialex.data import own_augmentation
    from minialex.training.report import report

    own_augmentation.use(augment)
    folder = newest_run(Path("runs")) if run_folder is None else run_folder
    path = report(
        folder,
        data,
        images=images or None,
        workers=workers,
        devices=device_config,
        progress=True,
    )
    print(f"results: {path}")
