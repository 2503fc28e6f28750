"""Writes predictions to a file, one row per image: CSV or JSON lines."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from minialex.errors import unknown
from minialex.utils import atomic

KINDS = (".csv", ".jsonl")


def require_kind(path: Path) -> Path:
    """`path`; InputError for a file type that is not one of `KINDS`."""
    if path.suffix.lower() not in KINDS:
        raise unknown("file type", path.suffix or str(path), KINDS)
    return path


class PredictionFile:
    """Writes rows as they come; the first one determines a CSV file's columns."""

    def __init__(self, file: TextIO, kind: str):
        self._file, self._lines, self.rows = file, kind == ".jsonl", 0
        self._csv = csv.writer(file, lineterminator="\n")

    def add(self, row: Mapping[str, Any]) -> None:
        """Write a row of values by column name; in CSV, booleans are 1 and 0."""
        self.rows += 1
        if self._lines:
            self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
            return
        cells = {k: int(v) if isinstance(v, bool) else v for k, v in row.items()}
        if self.rows == 1:
            self._csv.writerow(cells)
        self._csv.writerow(cells.values())


@contextmanager
def prediction_file(path: Path) -> Iterator[PredictionFile]:
    """A file to add rows to; it replaces an older one once all rows are written."""
    with atomic.text_file(require_kind(path)) as file:
        yield PredictionFile(file, path.suffix.lower())


def judged_rows(
    files: Iterable[str],
    class_names: Sequence[str],
    labels: np.ndarray,
    predicted: np.ndarray,
    probability: np.ndarray,
    right: np.ndarray,
) -> Iterator[dict[str, Any]]:
    """The rows of images whose classes are known.

    `labels` and `predicted` (N,) are indices of `class_names`, `probability` (N,) is that of the
    predicted class.
    """
    for file, label, said, p, known in zip(
        files, labels, predicted, probability, right, strict=True
    ):
        yield {
            "file": file,
            "label": class_names[label],
            "predicted": class_names[said],
            "probability": round(float(p), 6),
            "right": bool(known),
        }
