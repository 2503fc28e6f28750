"""Data sets that `minialex prepare` packed, as a source (the format is in `data/packed/`)."""

from collections.abc import Callable, Iterator
from pathlib import Path

from minialex.data.dataset import Splits
from minialex.data.inspect import report_lines
from minialex.data.packed.dataset import is_packed, open_packed, verify
from minialex.data.packed.format import Manifest
from minialex.data.sources.source import Source


def _open(root: Path, *, seed: int, val_fraction: float) -> Splits:
    return open_packed(root)  # it has a validation part, split when it was packed


def _check(
    root: Path, size: int | None, workers: int | None, progress: Callable[[int], object] | None
) -> Iterator[str]:
    """Class sizes, and whether every byte is unchanged."""
    splits = open_packed(root)
    yield f"{splits.train.name}: {splits.train.layout}"
    yield from report_lines.label_counts(splits)
    yield report_lines.stored_size(Manifest(root).size, size)
    yield from report_lines.verdict(verify(root))


SOURCE = Source("packed by minialex prepare", 0, is_packed, _open, check=_check)
