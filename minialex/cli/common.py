"""What several subcommands share: their common options, and where a trained network is found."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minialex.errors import InputError

if TYPE_CHECKING:
    from minialex.inference.classifier import Classifier
    from minialex.inference.ensemble import Ensemble


def add_backend(parser: argparse.ArgumentParser) -> None:
    """--backend and --devices."""
    parser.add_argument("--backend", default="auto", help="numpy, ... (default: the fastest here)")
    parser.add_argument("--devices", type=devices, metavar="N,N", help="which of its devices")
    parser.add_argument("--precision", default="fp32", help="fp32, tf32, bf16 or fp16 (CUDA)")
    parser.add_argument("--threads", type=at_least(1), metavar="N", help="of the CPU")


def add_model_file(parser: argparse.ArgumentParser) -> None:
    """--model-file, --backend and --devices: all it takes to load a classifier."""
    parser.add_argument(
        "--model-file",
        type=Path,
        metavar="PATH",
        help="a run folder or a weight file (default: the newest run under runs/)",
    )
    add_backend(parser)


def add_model_files(parser: argparse.ArgumentParser) -> None:
    """--model-file, once or several times, --weights, and the backend: for `load_all`."""
    parser.add_argument(
        "--model-file",
        type=Path,
        action="append",
        metavar="PATH",
        help="a run folder or a weight file (default: the newest run under runs/); several, each "
        "with its own --model-file, are judged as one by the mean of their probabilities",
    )
    parser.add_argument(
        "--weights", type=numbers, metavar="W,W", help="of several networks (default: equal ones)"
    )
    add_backend(parser)


def add_json(parser: argparse.ArgumentParser) -> None:
    """--json."""
    parser.add_argument("--json", action="store_true", help="print JSON for other programs")


def load(
    model_file: Path | None,
    backend: str,
    devices: list[int] | None,
    precision: str,
    threads: int | None,
) -> "Classifier":
    """The classifier in `model_file`, or of the newest run."""
    import minialex

    if model_file is None:
        model_file = newest_run(Path("runs"))
        print(f"using the newest run, {model_file}", file=sys.stderr)
    return minialex.load(model_file, backend, devices, precision=precision, threads=threads)


def load_all(
    model_files: list[Path] | None,
    weights: list[float] | None,
    backend: str,
    devices: list[int] | None,
    precision: str,
    threads: int | None,
) -> "Classifier | Ensemble":
    """A classifier, or of several weight files an ensemble."""
    if model_files is None or (len(model_files) == 1 and weights is None):
        if weights is not None:
            raise InputError("--weights goes with several --model-file: name the networks")
        chosen = model_files[0] if model_files else None
        return load(chosen, backend, devices, precision, threads)
    from minialex.inference.ensemble import load_ensemble
    from minialex.parallel import DeviceConfig

    chosen_devices = DeviceConfig(backend, devices, None, precision, threads)
    return load_ensemble(model_files, weights, chosen_devices)


def newest_run(root: Path) -> Path:
    """The run folder under `root` with the newest weights."""
    weights = list(root.glob("*/last.safetensors"))
    if not weights:
        raise InputError(
            f"there is no run under {root}/ here: name a run folder or a weight file with "
            "--model-file, or make one with `minialex train`"
        )
    return max(weights, key=lambda path: path.stat().st_mtime_ns).parent


def devices(text: str) -> list[int]:
    """--devices: numbers with commas between them."""
    return [int(part) for part in text.split(",")]


def numbers(text: str) -> list[float]:
    """--weights: numbers with commas between them."""
    return [float(part) for part in text.split(",")]


def at_least(smallest: int) -> Callable[[str], int]:
    """An argument type: a whole number that is not below `smallest`."""

    def number(text: str) -> int:
        value = int(text)
        if value < smallest:
            raise argparse.ArgumentTypeError(f"{value} is below {smallest}")
        return value

    number.__name__ = "whole number"  # argparse names it when `int` fails
    return number


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    print(json.dumps(value, indent=2))
