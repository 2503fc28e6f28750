"""draw the first layer's kernels by tower, and measure their colour (paper, figure 3)"""

import argparse
from dataclasses import asdict
from pathlib import Path

from minialex.cli.common import add_backend, add_json, at_least, load, print_json

EXAMPLES = (
    "minialex kernels runs/shapes --out kernels.png",
    "minialex kernels runs/shapes --json",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model_file",
        nargs="?",
        type=Path,
        metavar="PATH",
        help="a run folder or a weight file (default: the newest run under runs/)",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="draw them here: .png or .svg")
    parser.add_argument(
        "--towers", type=at_least(1), metavar="N", help="split the maps so (default: the network's)"
    )
    add_backend(parser)
    add_json(parser)


def run(
    model_file: Path | None,
    out: Path | None,
    towers: int | None,
    backend: str,
    devices: list[int] | None,
    precision: str,
    threads: int | None,
    json: bool,
) -> None:
    from minialex.inference.filters import colours

    if out is not None:
        from minialex.plots import require_picture

        require_picture(out)
    classifier = load(model_file, backend, devices, precision, threads)
    found = colours(classifier, towers)
    if out is not None:
        from minialex import plots

        plots.kernels(classifier, out, towers)
    if json:
        print_json(asdict(found))
        return
    print(f"{'tower':>5} {'kernels':>8} {'colour, median':>15} {'middle half':>16}")
    for t in found.towers:
        middle = f"{t.lower_quartile:.1%} - {t.upper_quartile:.1%}"
        print(f"{t.number:5} {t.kernels:8} {t.median:15.1%} {middle:>16}")
    if found.separation is not None:
        print(
            f"a kernel of tower 2 has more colour than one of tower 1 in {found.separation:.0%} of "
            "all pairs (50% if the towers are alike)"
        )
    print(
        "colour: the share of a kernel's energy off the grey axis, its mean removed; "
        "noise has 66.7%"
    )
    if out is not None:
        print(f"{out}: the kernels by tower")
