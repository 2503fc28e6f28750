"""decode and resize a data set once, so that training need not decode its files"""

import argparse
import shlex
import signal
from pathlib import Path

from minialex.cli.common import add_json, at_least, print_json

EXAMPLES = (
    "minialex prepare shapes:400 packed/shapes --size 72",
    "minialex train --data packed/shapes --model alexnet-64 --epochs 1 --out runs/packed",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a folder with ILSVRC-2012's archives, its Kaggle layout, class folders or CIFAR-10",
    )
    parser.add_argument("dest", type=Path, metavar="DEST", help="a new folder for the packed set")
    parser.add_argument(
        "--size",
        type=at_least(8),
        default=256,
        metavar="N",
        help="shorter side of the resized, centre-cropped images (default: 256)",
    )
    parser.add_argument(
        "--jpeg", action="store_true", help="keep JPEG: about a tenth of the space, decoded later"
    )
    parser.add_argument(
        "--quality", type=at_least(1), default=90, metavar="N", help="of --jpeg (default: 90)"
    )
    parser.add_argument(
        "--workers", type=at_least(1), metavar="N", help="threads that decode (default: all cores)"
    )
    parser.add_argument(
        "--val-fraction",
        type=float,
        default=0.1,
        metavar="F",
        help="share held out where the source has no validation images (default: 0.1)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of what is held out")
    parser.add_argument(
        "--max-left-out",
        type=float,
        default=0.05,
        metavar="F",
        help="share of unreadable or mislabelled images at which to give up (default: 0.05)",
    )
    add_json(parser)
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def run(source: str, dest: Path, json: bool, quiet: bool, **options) -> int:
    from minialex.data.packed.prepare import prepare
    from minialex.data.packed.report import NAME

    done = prepare(source, dest, progress=not (json or quiet), **options)
    if json:
        print_json(
            {
                "folder": str(done.folder),
                "images": done.images,
                "bytes": done.bytes,
                "left_out": done.left_out,
                "interrupted": done.interrupted,
            }
        )
    elif not quiet and not done.interrupted:
        counts = " and ".join(f"{count:,} {part}" for part, count in done.images.items())
        print(f"{done.folder}: {counts} images, {done.bytes / 1e6:,.1f} MB")
        if done.left_out:
            print(f"left out: {len(done.left_out):,}, listed in {done.folder / NAME}")
        model = "" if options["size"] >= 227 else " --model alexnet-64"  # the paper's crops are 227
        print(f"train on it: minialex train --data {shlex.quote(str(done.folder))}{model}")
    if done.interrupted:
        return 128 + signal.Signals[done.interrupted]
    return 0
