"""print a network layer by layer, or list all networks"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minialex.cli.common import add_json, add_model_option, at_least, network_options, print_json
from minialex.errors import InputError

if TYPE_CHECKING:
    from minialex.models import Model

EXAMPLES = (
    "minialex summary",
    "minialex summary alexnet-64 --classes 10",
    "minialex summary --variants",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        nargs="?",
        metavar="MODEL",
        help="network (default: alexnet), FILE.py:FUNCTION, or a file that defines one: "
        "cuda-convnet's .cfg or Caffe's .prototxt",
    )
    parser.add_argument("--variants", action="store_true", help="list all networks in a table")
    parser.add_argument(
        "--classes", type=at_least(2), metavar="N", help="number of classes (default: the paper's)"
    )
    add_model_option(parser)
    add_json(parser)


def run(model: str | None, variants: bool, classes: int | None, option: list, json: bool) -> None:
    from minialex import models
    from minialex.exchange.definitions import is_definition, model_of, summary_of
    from minialex.models import summary

    if variants and (model is not None or classes is not None or option):
        raise InputError("--variants lists all networks: leave out MODEL and its options")
    model = "alexnet" if model is None else model
    if variants and json:
        print_json({name: variant.summary for name, variant in models.variants().items()})
    elif variants:
        print(summary.variants())
    elif is_definition(model) and not json:
        print(summary_of(Path(model), classes, _input_size(option)))
    else:
        if is_definition(model):
            chosen = model_of(Path(model), classes, _input_size(option))
        else:
            chosen = models.get(models.use(model), classes, **network_options(option))
        if json:
            print_json(_document(chosen))
        else:
            print(summary.summary(chosen))


def _input_size(option: list) -> int | None:
    """The only option for a network from a file."""
    from minialex.utils.arguments import integer

    options = dict(option)
    size = options.pop("input_size", None)
    if options:
        raise InputError(f"a network from a file takes only input_size=N, not {min(options)}")
    return None if size is None else integer(1).check("input_size", size)


def _document(model: "Model") -> dict[str, Any]:
    """The table of one network as JSON."""
    rows = model.network.rows()
    return {
        "model": model.name,
        "classes": model.classes,
        "input": list(model.network.input_shape),
        "parameters": sum(row.parameters for row in rows),
        "neurons": sum(row.neurons for row in rows),
        "connections": sum(row.connections for row in rows),
        "layers": [
            {
                "name": row.name,
                "kind": type(row.layer).__name__,
                "output": list(row.output_shape),
                "parameters": row.parameters,
                "neurons": row.neurons,
                "connections": row.connections,
            }
            for row in rows
        ],
    }
