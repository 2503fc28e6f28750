"""decode and resize a data set once, so that training does not have to"""

import argparse
import shlex
import signal
from pathlib import Path
from typing import Any

from minialex.cli.common import add_json, add_workers, at_least, print_json
from minialex.errors import InputError
from minialex.utils.paths import expanded

EXAMPLES = (
    "minialex prepare shapes:400 packed/shapes --size 72",
    "minialex train --data packed/shapes --model alexnet-64 --epochs 1 --out runs/packed",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="images, as for `minialex train --data`",
    )
    parser.add_argument(
        "dest", type=expanded, metavar="DEST", help="new folder for the packed data"
    )
    parser.add_argument(
        "--size",
        type=at_least(8),
        default=256,
        metavar="N",
        help="shorter side of the resized, centre-cropped images (default: 256)",
    )
    parser.add_argument(
        "--jpeg",
        action="store_true",
        help="store JPEG: a tenth of the space, slower to read",
    )
    parser.add_argument(
        "--quality", type=at_least(1), metavar="N", help="JPEG quality (default: 90)"
    )
    add_workers(parser)
    parser.add_argument(
        "--val-fraction",
        type=float,
        default=0.1,
        metavar="F",
        help="fraction held out if the source has no validation images (default: 0.1)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="random seed for the held-out images (default: 0)",
    )
    parser.add_argument(
        "--max-left-out",
        type=float,
        default=0.05,
        metavar="F",
        help="stop if more than this fraction is unreadable or mislabelled (default: 0.05)",
    )
    add_json(parser)
    parser.add_argument("--quiet", action="store_true", help="print errors only")


def run(
    source: str,
    dest: Path,
    jpeg: bool,
    quality: int | None,
    json: bool,
    quiet: bool,
    **options: Any,
) -> int:
    from minialex.data.packed.finish import REPORT
    from minialex.data.packed.prepare import prepare

    if quality is not None and not jpeg:
        raise InputError("--quality has no effect without --jpeg: leave it out, or add --jpeg")
    options["quality"] = 90 if quality is None else quality
    done = prepare(source, dest, jpeg=jpeg, progress=not (json or quiet), **options)
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
            print(f"skipped {len(done.left_out):,} images, listed in {done.folder / REPORT}")
        print(f"next: minialex train --data {shlex.quote(str(done.folder))}")
    if done.interrupted:
        return 128 + signal.Signals[done.interrupted]
    return 0
