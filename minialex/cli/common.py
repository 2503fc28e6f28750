"""Options, argument types and model loading that several commands share."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minialex.errors import InputError
from minialex.utils.arguments import ListOf, Number, Settings, integer
from minialex.utils.paths import expanded

if TYPE_CHECKING:
    from minialex.inference.classifier import Classifier
    from minialex.inference.ensemble import Ensemble
    from minialex.parallel import DeviceConfig

PHOTOS = "image files, folders of images, or shapes:N for N built-in drawings"

_MODEL_FILE = "run folder, weight file or name of kept weights (default: newest run in runs/)"
_OWN_MODEL = "own_model"


def add_device_options(parser: argparse.ArgumentParser) -> None:
    """--backend, --devices, --precision and --threads; `run` gets them as `device_config`."""
    parser.set_defaults(has_device_options=True)
    group = parser.add_argument_group("device")
    group.add_argument(
        "--backend", default="auto", metavar="NAME", help="numpy, numba or cupy (default: fastest)"
    )
    group.add_argument(
        "--devices",
        type=ListOf(integer(0)),
        metavar="N,N",
        help="device numbers, e.g. 0,1 (default: 0)",
    )
    group.add_argument(
        "--precision",
        default="fp32",
        metavar="TYPE",
        help="fp32, or exact (slower: no Winograd tiles); on CUDA also tf32, bf16 or fp16, on "
        "numba int8, for predictions only (default: fp32)",
    )
    group.add_argument(
        "--threads", type=at_least(1), metavar="N", help="CPU threads (default: available cores)"
    )


def with_device_config(arguments: dict[str, Any]) -> dict[str, Any]:
    """`arguments` with the options of `add_device_options`, if any, as one value."""
    if not arguments.pop("has_device_options", False):
        return arguments
    from minialex.parallel import DeviceConfig

    fields = {name: arguments.pop(name) for name in ("backend", "devices", "precision", "threads")}
    return {**arguments, "device_config": DeviceConfig(**fields)}


def add_own_model(parser: argparse.ArgumentParser) -> None:
    """--model, for weights of a network that minialex does not have."""
    parser.add_argument(
        "--model",
        dest=_OWN_MODEL,
        metavar="FILE.py:NAME",
        help="code of the network, if it is your own (the code is run)",
    )


def with_own_model(arguments: dict[str, Any]) -> dict[str, Any]:
    """`arguments` without the option of `add_own_model`, whose network is registered."""
    own = arguments.pop(_OWN_MODEL, None)
    if own is not None:
        from minialex.models.registry import PLUGINS

        if PLUGINS.use(own) not in PLUGINS.names():
            raise PLUGINS.unknown(own)
    return arguments


class _IfGiven(argparse.Action):
    """Stores a value, unless an absent optional positional would undo an option's."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
        if values is not None:
            setattr(namespace, self.dest, values)


def add_model_path(parser: argparse.ArgumentParser) -> None:
    """PATH, optional, for `load`."""
    add_own_model(parser)
    either: dict[str, Any] = {"type": Path, "metavar": "PATH", "action": _IfGiven}
    parser.add_argument("model_file", nargs="?", help=_MODEL_FILE, **either)
    parser.add_argument("--model-file", help=argparse.SUPPRESS, **either)  # as in other commands


def add_model_file(parser: argparse.ArgumentParser) -> None:
    """--model-file for `load`."""
    add_own_model(parser)
    parser.add_argument("--model-file", type=expanded, metavar="PATH", help=_MODEL_FILE)


def add_model_files(parser: argparse.ArgumentParser) -> None:
    """--model-file, repeatable, and --weights, for `load_all`."""
    add_own_model(parser)
    parser.add_argument(
        "--model-file",
        type=expanded,
        action="append",
        metavar="PATH",
        help=f"{_MODEL_FILE}; repeat to average several models",
    )
    parser.add_argument(
        "--weights",
        type=ListOf(Number(float)),
        metavar="W,W",
        help="weight of each model in the average (default: equal)",
    )


def add_model_option(parser: argparse.ArgumentParser) -> None:
    """--option NAME=VALUE, repeatable."""
    parser.add_argument(
        "--option",
        type=Settings(),
        action="append",
        default=[],
        metavar="N=V",
        help="network option, e.g. towers=1 (repeatable)",
    )


def add_workers(parser: argparse.ArgumentParser) -> None:
    """--workers."""
    parser.add_argument(
        "--workers",
        type=at_least(1),
        metavar="N",
        help="threads that read images (default: available cores)",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """--json."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def load(model_file: Path | None, device_config: "DeviceConfig") -> "Classifier":
    """The classifier in `model_file`, or of the newest run."""
    from minialex.inference.classifier import load_on

    if model_file is None:
        model_file = newest_run(Path("runs"))
        print(f"using the newest run, {model_file}", file=sys.stderr)
    return load_on(model_file, device_config)


def load_all(
    model_files: list[Path] | None, weights: list[float] | None, device_config: "DeviceConfig"
) -> "Classifier | Ensemble":
    """One classifier, or an ensemble of several."""
    if model_files is None and weights is not None:
        raise InputError("--weights needs several --model-file: give the models to average")
    if model_files is None or (len(model_files) == 1 and weights is None):
        return load(model_files[0] if model_files else None, device_config)
    from minialex.inference.ensemble import load_ensemble

    return load_ensemble(model_files, weights, device_config)


def newest_run(root: Path) -> Path:
    """The run folder in `root` with the newest weights."""
    weights = [*root.glob("*/last.safetensors"), *root.glob("*/best.safetensors")]
    if not weights:
        raise InputError(
            f"no run in {root}/: give a run folder or a weight file with --model-file, or train a "
            "network with `minialex train`"
        )
    return max(weights, key=lambda path: path.stat().st_mtime_ns).parent


def at_least(smallest: int) -> Callable[[str], int]:
    """An argument type: an integer of at least `smallest`."""

    def number(text: str) -> int:
        value = int(text)
        if value < smallest:
            raise argparse.ArgumentTypeError(f"{value} is less than {smallest}")
        return value

    number.__name__ = "integer"  # argparse prints it when `int` fails
    return number


def print_json(value: Any) -> None:
    """Print one JSON document; JSON has no NaN and no infinity, so they become null."""
    print(json.dumps(_finite(value), indent=2, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def network_options(option: "list[tuple[str, Any]]") -> dict[str, Any]:
    """The values of --option; InputError for what is not an option of a network."""
    found = dict(option)
    for name in ("name", "classes"):
        if name in found:
            raise InputError(f"{name} is not an option of a network: leave out --option {name}")
    return found
