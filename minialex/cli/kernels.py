"""draw the first layer's kernels and measure their colourfulness (paper, figure 3)"""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from minialex.cli.common import (
    add_device_options,
    add_json,
    add_model_path,
    at_least,
    load,
    print_json,
)
from minialex.utils.paths import expanded

if TYPE_CHECKING:
    from minialex.parallel import DeviceConfig

EXAMPLES = (
    "minialex kernels runs/shapes --out kernels.png",
    "minialex kernels runs/shapes --json",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_path(parser)
    parser.add_argument(
        "--out", type=expanded, metavar="FILE", help="picture to write: .png, .svg or .pdf"
    )
    parser.add_argument(
        "--towers",
        type=at_least(1),
        metavar="N",
        help="split the kernels into N groups (default: the network's towers)",
    )
    add_device_options(parser)
    add_json(parser)


def run(
    model_file: Path | None,
    out: Path | None,
    towers: int | None,
    device_config: "DeviceConfig",
    json: bool,
) -> None:
    from minialex.inference.filters import colours
    from minialex.utils.table import plain

    if out is not None:
        from minialex.plots import require_picture

        require_picture(out)
    classifier = load(model_file, device_config)
    found = colours(classifier, towers)
    if out is not None:
        from minialex import plots

        plots.kernels(classifier, out, towers)
    if json:
        print_json(asdict(found))
        return
    rows = []
    for t in found.towers:
        quartiles = f"{t.lower_quartile:.1%} - {t.upper_quartile:.1%}"
        rows.append((f"{t.number}", f"{t.kernels}", f"{t.median:.1%}", quartiles))
    print(plain(("tower", "kernels", "median colourfulness", "quartiles"), rows, ">>>>"))
    print("Colourfulness is 0-100% (random noise: 67%).")
    if found.separation is not None:
        print(
            f"Tower 2 is more colourful in {found.separation:.0%} of pairs (50% = no difference)."
        )
    if out is not None:
        print(f"picture: {out}")
