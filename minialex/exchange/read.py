"""Reads a weight file of any supported program."""

from pathlib import Path

import numpy as np

from minialex.errors import InputError, nearest
from minialex.exchange.formats.format import HEAD, Format, Request, all_formats
from minialex.exchange.portable import PortableModel
from minialex.utils import checkpoint
from minialex.utils.paths import expanded


def read(
    path: str | Path,
    as_model: str | None = None,
    *,
    definition: str | Path | None = None,
    mean: str | Path | None = None,
    colours: str | None = None,
    for_training: bool = False,
) -> PortableModel:
    """The model in a weight file of another program; the arguments are those of `Request`.

    Raises InputError for a file of an unknown format or a damaged one, FileNotFoundError if there
    is no file. Nothing in the file is executed.
    """
    path = expanded(path)
    found = format_of(path)
    if found is None:
        if is_ours(path):
            raise InputError(f"{path} is already a minialex weight file: use it as it is")
        known = ", ".join(one.name for one in all_formats())
        raise InputError(f"{path} is not a weight file of a supported program ({known})")
    if colours not in (None, "RGB", "BGR"):
        raise InputError(f'colours must be "RGB" or "BGR", not {colours!r}')
    layers, image = (None if one is None else expanded(one) for one in (definition, mean))
    for one in (layers, image):
        if one is not None and not one.exists():
            raise _missing(one)
    given = {"as_model": as_model, "definition": layers, "mean": image, "colours": colours}
    for name, value in given.items():
        if value is not None and name not in found.takes:
            option = "--as" if name == "as_model" else f"--{name}"
            raise InputError(f"{path} is a file of {found.name}, which does not take {option}")
    # numbers that do not fit float32 become infinite, which is refused below
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        portable = found.read(Request(path, as_model, layers, image, colours, for_training))
    _require_finite(path, portable)
    return portable


def _missing(path: Path) -> FileNotFoundError:
    return FileNotFoundError(f"no file or folder {path}: {nearest(path) or 'check the path'}")


def _require_finite(path: Path, portable: PortableModel) -> None:
    mean = {"preprocessing": {"mean": portable.preprocessing.mean}}
    for layer, of in (
        *portable.params.items(),
        *(portable.velocities or {}).items(),
        *mean.items(),
    ):
        for name, value in of.items():
            # not `isfinite`, which makes an array; the smallest of numbers with a NaN is NaN
            if value.size and not np.isfinite([value.min(), value.max()]).all():
                raise InputError(
                    f"{path} has numbers that are not finite, in {layer}.{name}: it is damaged, or "
                    "from a training that failed"
                )


def is_ours(path: Path) -> bool:
    """Whether a file is a weight file or the state of a run of minialex."""
    try:
        checkpoint.load_metadata(path)
    except InputError:
        return False
    return True


def format_of(path: Path) -> Format | None:
    """The format of a file or folder; None if it is unknown."""
    if not path.exists():
        raise _missing(path)
    head = b""
    if path.is_file():
        if is_ours(path):  # by far the most frequent file: without the modules of all others
            return None
        with path.open("rb") as file:
            head = file.read(HEAD)
    return next((one for one in all_formats() if one.matches(path, head)), None)
