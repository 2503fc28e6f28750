"""What an experiment hands back: sentences, tables and figures for the report."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minialex.experiments.statistics import Measured

Value = str | float | int | Measured | None


@dataclass(frozen=True)
class Table:
    """`rows` under `columns`; a `Measured` shows its spread, None is a dash.

    `digits` stand after the point on the page; the CSV file has numbers whole.
    """

    name: str  # of the CSV file
    caption: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[Value]]
    digits: int = 1


@dataclass(frozen=True)
class Figure:
    """A picture: `draw(figure)` fills a Matplotlib figure of `size` inches.

    `alt` says in words what is to be seen. With `raster` it stays pixels in the report.
    """

    name: str  # of the PNG file
    caption: str
    alt: str
    draw: Callable[[Any], None]
    size: tuple[float, float] = (7.0, 3.2)
    raster: bool = False


@dataclass(frozen=True)
class Picture:
    """A picture that `make(path)` writes as a PNG."""

    name: str
    caption: str
    alt: str
    make: Callable[[Path], Any]


@dataclass(frozen=True)
class Section:
    """An experiment's part of the report.

    `setting` names data and recipe, a line each; `findings` are sentences made from the numbers.
    """

    setting: Sequence[str] = ()
    findings: Sequence[str] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[Figure | Picture] = field(default_factory=tuple)
