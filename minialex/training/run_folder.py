"""The folder of a run: its configuration, history and weights.

config.json           the run's arguments, complete enough to resume
history.csv           one row per epoch
last.safetensors      the newest state: parameters, optimiser, averages, counters
best.safetensors      the weights with the lowest validation loss
classes.txt           class names in label order
checkpoints/          the weights after some epochs, with --keep-every: epoch-0000.safetensors, ...
held_out.txt          the images held out for validation, if they were drawn: digest, bytes, name
steps.csv             one row per step: loss, learning rate, images per second
results.html          the report: curves, accuracy by class, mistakes; needs no server
predictions.csv       the best weights' prediction for each validation image
.lock                 empty; locked by the process that trains in the folder
"""

import csv
import json
import re
import shlex
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from minialex.errors import InputError, nearest
from minialex.utils import atomic
from minialex.utils.lock import lock

# what a run writes beside its weights, and removes again if it ends before it has any
FILES = (
    "config.json",
    "classes.txt",
    "held_out.txt",
    "history.csv",
    "steps.csv",
    "results.html",
    "predictions.csv",
)


def new_folder(out: str | Path | None, name: str, files: Sequence[str] = ()) -> Path:
    """`out`, or a new runs/NAME, runs/NAME-2, ...

    InputError if the folder holds a run or weights, or one of the `files` that will be written.
    Processes that ask for a new folder at the same time each get their own.
    """
    if out is None:
        name = re.sub(r"[:/\\]", "-", name)
        for number in count(1):
            folder = Path("runs") / (name if number == 1 else f"{name}-{number}")
            folder.parent.mkdir(exist_ok=True)
            with suppress(FileExistsError):
                folder.mkdir()
                return folder
    folder = Path(str(out))
    _require_free(folder, files)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: choose another output folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except NotADirectoryError:
        raise InputError(f"{folder} is inside a file: choose another output folder") from None
    return folder


def _require_free(folder: Path, files: Sequence[str]) -> None:
    """Raise InputError if the folder holds a run, unless it was killed before its first save.

    Or if it holds one of the `files`, which would be replaced.
    """
    if (folder / "last.safetensors").exists() and (folder / "config.json").exists():
        raise InputError(
            f"{folder} already holds a run: resume it, or choose another output folder"
        )
    require_no_weights(folder)
    if _is_config(folder / "config.json"):  # of such a run
        return
    if others := [name for name in files if (folder / name).exists()]:
        raise InputError(
            f"{folder} has files that a run would replace ({', '.join(others)}): choose another "
            "output folder"
        )


def _is_config(path: Path) -> bool:
    """Whether this is a run's config.json."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and isinstance(found.get("settings"), dict)


def require_no_weights(folder: Path) -> None:
    """Raise InputError if the folder holds weights, such as imported ones."""
    if any((folder / name).exists() for name in ("best.safetensors", "last.safetensors")):
        raise InputError(f"{folder} already has weights: choose another output folder")


@contextmanager
def claimed(out: str | Path | None, name: str, *, resume: bool) -> Iterator[Path]:
    """The folder of a run, locked against other processes.

    A new folder is removed if the run ends before its first state was saved, so that the same
    command can be run again.
    """
    missing = [] if out is None else _missing(Path(str(out)))
    folder = Path(str(out)) if resume else new_folder(out, name, FILES)
    before = {name for name in FILES if (folder / name).exists()}
    mine = out is None
    try:
        with locked(folder):
            mine = True
            atomic.remove_stale(folder)
            if not resume:
                _require_free(folder, FILES)  # another process may have been here since
            try:
                yield folder
            finally:
                if not resume and not (folder / "last.safetensors").exists():
                    for file in reversed(FILES):  # config.json, by which it is known, comes last
                        if file not in before:
                            (folder / file).unlink(missing_ok=True)
    finally:
        if mine and not resume:
            for path in missing if out is not None else [folder]:
                with suppress(OSError):  # it holds something
                    path.rmdir()


def locked(folder: Path, ended: Collection[tuple[str, int]] = ()) -> AbstractContextManager[None]:
    """The lock of a run's folder, which may still name one of the processes that have `ended`."""
    busy = f"another process is already training in {folder}: wait, or choose another folder"
    return lock(folder, busy, ended)


def _missing(folder: Path) -> list[Path]:
    """The folder and its parents that do not exist yet, innermost first."""
    return [path for path in (folder, *folder.parents) if not path.exists()]


def resume_command(folder: Path) -> str:
    """The command that resumes the run in `folder`."""
    return f"minialex train --resume {shlex.quote(str(folder))}"


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of the run in `folder`."""
    path = folder / "config.json"
    if not folder.exists():
        hint = nearest(folder) or "check the path"
        raise FileNotFoundError(f"no run folder {folder}: {hint}")
    if not path.exists() and (one := folder / "fold-1").is_dir():
        raise InputError(
            f"{folder} holds a cross-validation: repeat the command that started it, or give one "
            f"of its runs, such as {one}"
        )
    if not path.exists():
        raise InputError(f"{folder} is not a run folder (it has no config.json)")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}): start a new run") from None
    if not isinstance(config, dict) or not isinstance(config.get("settings"), dict):
        raise InputError(f"{path} is not the configuration of a minialex run")
    return config


def write_config(folder: Path, config: dict[str, Any], class_names: Iterable[str]) -> None:
    """Write config.json and classes.txt."""
    atomic.write_json(folder / "config.json", config)
    atomic.write_text(folder / "classes.txt", "".join(f"{name}\n" for name in class_names))


def write_held_out(folder: Path, text: str) -> None:
    """Write held_out.txt."""
    atomic.write_text(folder / "held_out.txt", text)


def read_history(folder: Path) -> list[dict[str, Any]]:
    """The rows of history.csv, numbers as numbers and None where there is none; [] without one."""
    path = folder / "history.csv"
    if not path.exists():
        return []
    with open(path, encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if None not in row.values()]  # or half written
    return [{k: _number(k, v) for k, v in row.items()} for row in rows]


def read_steps(folder: Path) -> list[tuple[float, float]]:
    """(step, loss) of each row of steps.csv; [] without one."""
    path = folder / "steps.csv"
    if not path.exists():
        return []
    found = []
    with open(path, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            step, loss = (_number(name, row.get(name)) for name in ("step", "loss"))
            if isinstance(step, float) and isinstance(loss, float):  # or it is half written
                found.append((step, loss))
    return found


def _number(name: str, text: str | None) -> float | str | None:
    try:
        return float(text) if text else None
    except ValueError:  # a note, or what another program made of a number
        return text if name == "changed" else None


def checkpoint_path(folder: Path, epoch: int) -> Path:
    """Where the weights after `epoch` epochs are kept; 0: the initial ones."""
    return folder / "checkpoints" / f"epoch-{epoch:04}.safetensors"


def checkpoints(folder: Path) -> dict[int, Path]:
    """The kept weights of a run by epoch, in order."""
    found = {}
    for path in (folder / "checkpoints").glob("epoch-*.safetensors"):
        number = path.stem.removeprefix("epoch-")
        if number.isdecimal():
            found[int(number)] = path
    return dict(sorted(found.items()))
