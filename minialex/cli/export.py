"""write trained weights for other programs (ONNX, PyTorch)"""

import argparse
from pathlib import Path

from minialex.cli.common import add_own_model
from minialex.utils.paths import expanded

EXAMPLES = (
    "minialex export runs/shapes shapes.safetensors",
    "minialex export runs/shapes shapes.pth",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model_file", type=expanded, metavar="PATH", help="run folder or weight file"
    )
    add_own_model(parser)
    parser.add_argument(
        "file",
        type=expanded,
        metavar="FILE",
        help="file to write: .onnx, .safetensors or .pth (a state dict in torchvision's names)",
    )
    parser.add_argument(
        "--with-preprocessing",
        action="store_true",
        help="ONNX: the graph takes uint8 images (N, H, W, 3), cropped, and subtracts the mean",
    )


def run(model_file: Path, file: Path, with_preprocessing: bool) -> None:
    from minialex.exchange.write import write
    from minialex.inference.classifier import load, to_portable

    portable = to_portable(load(model_file, "numpy"))
    said = write(portable, file, with_preprocessing=with_preprocessing)
    print(f"{file}: {portable.model.name}, {len(portable.names)} classes")
    print(said)
