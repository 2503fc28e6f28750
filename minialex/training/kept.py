"""Weights stored by name: those of a run, at its end or later, with a summary of each."""

from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from minialex.errors import InputError
from minialex.inference.classifier import is_foreign, load, weight_file
from minialex.training import run_folder
from minialex.utils import checkpoint, weight_names
from minialex.utils.paths import expanded


@dataclass(frozen=True)
class Kept:
    """A summary of stored weights; for an unreadable file, only the `problem`.

    `accuracy` (0 … 1) is that on the validation images of their run, None if it had none; `data` is
    what that run called its images.
    """

    name: str
    path: Path
    bytes: int
    network: str = ""
    classes: int = 0
    accuracy: float | None = None
    data: str | None = None
    problem: str = ""


def kept() -> list[Kept]:
    """All kept weights, by name."""
    return [_described(name) for name in weight_names.names()]


def keep(run: str | Path, name: str) -> str:
    """Store the best weights of a run folder, or a weight file, as `name`; -> a message.

    They are rounded to float16 and stored with class names, preprocessing and the list of training
    images. Existing weights of that name are replaced. Raises InputError for an invalid name or if
    writing fails, FileNotFoundError if there is no such run.
    """
    path, given = weight_names.file_of(name), weight_names.located(expanded(run))
    classifier = load(given, "numpy")
    replaced = ", in place of those before" if path.exists() else ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        classifier.save(path, half=True, accuracy=_accuracy(given))
    except OSError as error:
        raise InputError(
            f"the weights of {run} were not kept as {name!r} ({error.strerror or error}): make "
            f"room, or set MINIALEX_HOME to another folder, then `minialex weights --keep {run} "
            f"{name}`"
        ) from error
    return f"kept as {name!r}{replaced}: {path} ({path.stat().st_size / 1e6:.1f} MB)"


def _accuracy(path: Path) -> float | None:
    """The validation accuracy of a run's best weights, or the one stored in a weight file."""
    if is_foreign(path):
        return None
    if not path.is_dir():
        return checkpoint.load_metadata(weight_file(path)).get("accuracy")
    rows = [row for row in run_folder.read_history(path) if row["val_loss"] is not None]
    rows = [row for row in rows if isfinite(row["val_loss"])]
    best = min(rows, key=lambda row: row["val_loss"], default=None)
    return None if best is None else 1 - best["val_top1_error"]


def _described(name: str) -> Kept:
    path = weight_names.file_of(name)
    size = path.stat().st_size
    try:
        about = checkpoint.load_metadata(path)
        network, data = about["model"], about.get("data") or {}
        return Kept(
            name,
            path,
            size,
            str(network["name"]),
            int(network["classes"]),
            about.get("accuracy"),
            data.get("data"),
        )
    except InputError as error:
        return Kept(name, path, size, problem=str(error))
    except (KeyError, TypeError, ValueError):
        return Kept(name, path, size, problem=f"{path} does not say which network it is of")
