"""import weights from another program (PyTorch, ONNX, Caffe, ...)"""

import argparse
import shlex
from pathlib import Path

from minialex.cli.common import add_json, print_json
from minialex.utils.paths import expanded

EXAMPLES = ("minialex import shapes.safetensors --out runs/imported",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", type=expanded, metavar="FILE", help="weight file of another program"
    )
    parser.add_argument(
        "--as",
        dest="as_model",
        metavar="MODEL",
        help="network that the weights are for (default: from the file)",
    )
    parser.add_argument(
        "--definition",
        type=expanded,
        metavar="FILE",
        help="file that describes the layers, if the weight file does not (Caffe's prototxt)",
    )
    parser.add_argument(
        "--mean",
        type=expanded,
        metavar="PATH",
        help="mean image (Caffe's mean.binaryproto), or training images to compute it from",
    )
    parser.add_argument(
        "--colours",
        choices=("RGB", "BGR"),
        help="colour order of a Caffe network (default: BGR; RGB if the file names CIFAR-10)",
    )
    parser.add_argument(
        "--class-names",
        type=expanded,
        metavar="FILE",
        help="text file, one class per line in the order of the outputs: a name, or an id such as "
        "n01440764 and a name",
    )
    parser.add_argument(
        "--out", type=expanded, required=True, metavar="DIR", help="folder to write"
    )
    add_json(parser)


def run(
    file: Path,
    as_model: str | None,
    definition: Path | None,
    mean: Path | None,
    colours: str | None,
    class_names: Path | None,
    out: Path,
    json: bool,
) -> None:
    from minialex import models
    from minialex.exchange.names import named
    from minialex.exchange.read import read
    from minialex.inference.classifier import from_portable
    from minialex.models.registry import PLUGINS
    from minialex.parallel import DeviceConfig
    from minialex.training import run_folder
    from minialex.utils import atomic

    run_folder.require_no_weights(out)
    portable = read(file, models.use(as_model), definition=definition, mean=mean, colours=colours)
    if class_names is not None:
        portable = named(portable, class_names)
    folder = run_folder.new_folder(out, portable.model.name)
    from_portable(portable, DeviceConfig("numpy")).save(folder / "best.safetensors")
    atomic.write_text(folder / "classes.txt", "".join(f"{name}\n" for name in portable.names))

    model = portable.model
    parameters, classes = model.network.parameter_count, model.network.classes
    if json:
        found = {"format": portable.format, "model": model.name, "classes": classes}
        print_json({**found, "parameters": parameters, "notes": portable.notes, "out": str(out)})
        return
    numbered = "" if portable.class_names else ", numbered (name them with --class-names)"
    print(f"{file}: {portable.format}, {model.name}, {parameters:,} parameters")
    print(f"{classes} classes{numbered}; {portable.preprocessing.recipe.line()}")
    for note in portable.notes:
        print(note)
    imported = shlex.quote(str(out)) + PLUGINS.again(model.name)
    print(f"next: minialex predict PHOTO --model-file {imported}")
