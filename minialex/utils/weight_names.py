"""Weights kept in the user's data folder, whose names work wherever a weight path does.

    $MINIALEX_HOME/weights/NAME.safetensors

Without MINIALEX_HOME the folder is the platform's usual one for application data, such as
~/.local/share/minialex. A file, or a run's folder, of that name in the current folder comes first.
"""

import os
import re
import sys
from pathlib import Path

from minialex.errors import InputError, nearest
from minialex.utils.paths import expanded

_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")
_SUFFIX = ".safetensors"
_IN_A_RUN = ("best.safetensors", "last.safetensors")


def require(name: str) -> str:
    """`name` if it is valid; InputError if not."""
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r} cannot be the name of kept weights: use letters, digits, '-' and '_'"
        )
    return name


def folder() -> Path:
    """Where the weights are kept; it need not exist."""
    if own := os.environ.get("MINIALEX_HOME"):
        return expanded(own).absolute() / "weights"
    try:
        return _data_home() / "minialex" / "weights"
    except RuntimeError:  # of Path.home
        raise InputError(
            "there is no home folder that weights could be kept in: set MINIALEX_HOME to a folder"
        ) from None


def _data_home() -> Path:
    """The platform's folder for application data."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    given = Path(os.environ.get("XDG_DATA_HOME") or "")
    return given if given.is_absolute() else Path.home() / ".local" / "share"


def names() -> list[str]:
    """All names, sorted."""
    return sorted(path.stem for path in folder().glob(f"*{_SUFFIX}") if _NAME.fullmatch(path.stem))


def file_of(name: str) -> Path:
    """The weight file of a name; it need not exist."""
    return folder() / f"{require(name)}{_SUFFIX}"


def located(path: Path) -> Path:
    """`path`, or the weights of that name if there is no such file, or folder of a run."""
    is_run = any((path / name).exists() for name in ("config.json", *_IN_A_RUN))
    if path.is_file() or is_run or not _NAME.fullmatch(str(path)):
        return path
    kept = file_of(str(path))
    return kept if kept.exists() else path


def missing(path: Path) -> FileNotFoundError:
    """The error for weights that neither exist nor are kept under that name."""
    said, hint = f"no file or folder {path}", "give a run folder or a weight file"
    if not _NAME.fullmatch(str(path)):
        return FileNotFoundError(f"{said}: {nearest(path) or hint}")
    known = names()
    hint += f", or keep some with `minialex train --data DATA --keep {path}`"
    return FileNotFoundError(
        f"{said}, and no weights are kept under that name (kept: {', '.join(known) or 'none'}): "
        f"{nearest(path, known) or hint}"
    )
