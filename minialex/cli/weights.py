"""list the weights that are kept by name, or keep those of a run

`minialex train --keep NAME` keeps them at the end of training. The name can be used wherever a
weight file can: `--from NAME`, `--model-file NAME`, `minialex.load("NAME")`.
"""

import argparse
from dataclasses import asdict

from minialex.cli.common import add_json, add_own_model, print_json

EXAMPLES = (
    "minialex weights --keep runs/shapes drawings",
    "minialex weights",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--keep",
        nargs=2,
        metavar=("RUN", "NAME"),
        help="keep the best weights of this run folder, or a weight file, under this name",
    )
    add_own_model(parser)
    add_json(parser)


def run(keep: list[str] | None, json: bool) -> int:
    from minialex.training import kept
    from minialex.utils import weight_names
    from minialex.utils.table import plain

    if keep is not None:
        said = kept.keep(*keep)
        if not json:
            print(said)
            return 0
    found = kept.kept()
    if json:
        print_json([{**asdict(one), "path": str(one.path)} for one in found])
    elif not found:
        print(
            f"no weights are kept in {weight_names.folder()}: `minialex train --data DATA --keep "
            "NAME` saves some"
        )
    else:
        rows = [
            (
                one.name,
                one.network,
                f"{one.classes:,}",
                f"{one.bytes / 1e6:.1f} MB",
                "" if one.accuracy is None else f"{one.accuracy:.1%}",
                one.data or "",
            )
            for one in found
            if not one.problem
        ]
        header = ("name", "network", "classes", "size", "accuracy", "trained on")
        print(plain(header, rows, "<<>>><"))
        for one in found:
            if one.problem:
                print(f"{one.name}: {one.problem}")
    return int(any(one.problem for one in found))
