"""The folder of a run: its configuration, its history, its weights, and how to find it again.

config.json           what was asked for, complete enough to resume
history.csv           one row an epoch
last.safetensors      the newest state: parameters, velocities, counters
best.safetensors      the weights with the lowest validation error
classes.txt           class names in label order
"""

import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from minialex.errors import InputError
from minialex.utils import atomic

COLUMNS = (
    "epoch",
    "step",
    "seconds",
    "images_per_second",
    "learning_rate",
    "train_loss",
    "l2_loss",
    "val_loss",
    "val_top1_error",
    "val_top5_error",
    "load_share",
    "validation_seconds",
)


def new_folder(out: str | Path | None, name: str) -> Path:
    """`out`, or a fresh runs/NAME, runs/NAME-2, ...; refuses a folder that holds a run."""
    if out is None:
        folder, number = Path("runs") / name, 1
        while folder.exists():
            number += 1
            folder = Path("runs") / f"{name}-{number}"
    else:
        folder = Path(out)
        if (folder / "config.json").exists():
            raise InputError(
                f"{folder} already holds a run: resume it, or choose another output folder"
            )
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is a file: choose another output folder")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of the run in `folder`."""
    path = folder / "config.json"
    if not folder.exists():
        raise FileNotFoundError(f"no run folder {folder} to resume")
    if not path.exists():
        raise InputError(f"{folder} holds no config.json: it is not a run folder")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}): start a new run") from None
    if not isinstance(config, dict) or "settings" not in config:
        raise InputError(f"{path} is not the configuration of a minialex run")
    return config


def write_config(folder: Path, config: dict[str, Any], class_names: Iterable[str]) -> None:
    """Write config.json and classes.txt."""
    atomic.write_json(folder / "config.json", config)
    atomic.write_text(folder / "classes.txt", "".join(f"{name}\n" for name in class_names))


def write_history(folder: Path, history: list[dict[str, Any]]) -> None:
    """Write history.csv anew, whole."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    atomic.write_text(folder / "history.csv", text.getvalue())
