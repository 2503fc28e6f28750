"""What an experiment returns: sentences, tables and figures for the report."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minialex.experiments.over_seeds import Difference, Measured

Value = str | float | int | Measured | None


@dataclass(frozen=True)
class Table:
    """`rows` under `columns`; None is shown as a dash, a `Measured` with its deviation.

    The page shows `digits` after the point, the CSV file unrounded numbers.
    """

    name: str  # of the CSV file
    caption: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[Value]]
    digits: int = 1


@dataclass(frozen=True)
class Figure:
    """A diagram: `draw` fills a Matplotlib figure of `size` inches.

    `alt` describes it for readers who cannot see it. With `raster` the page uses PNG instead of
    SVG.
    """

    name: str  # of the PNG file
    caption: str
    alt: str
    draw: Callable[[Any], None]
    size: tuple[float, float] = (7.0, 3.2)
    raster: bool = False


@dataclass(frozen=True)
class Picture:
    """A picture: `make(path)` writes it as PNG."""

    name: str  # of the PNG file
    caption: str
    alt: str
    make: Callable[[Path], Any]


@dataclass(frozen=True)
class Claim:
    """A statement of the paper and what was measured: a row of the table that opens the report.

    If the statement is true, `found` lies above that of no effect, or with `sign` -1 below it.
    """

    statement: str
    published: str | float | None
    found: Difference | None
    sign: int = 1

    def __post_init__(self) -> None:
        assert self.sign in (1, -1)

    @property
    def seeds(self) -> int:
        return len(self.found.values) if self.found else 0

    @property
    def verdict(self) -> str:
        """Whether the statement was shown here, by the interval alone."""
        if self.found is None:
            return "not measured"
        if self.found.sign is None:
            return "no interval"
        if self.found.sign == 0:
            return "inconclusive"
        return "shown" if self.found.sign == self.sign else "the opposite"


@dataclass(frozen=True)
class Section:
    """An experiment's part of the report.

    `setting` describes data and training, a line each; `findings` are sentences with the results.
    """

    setting: Sequence[str] = ()
    findings: Sequence[str] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[Figure | Picture] = ()
    claims: Sequence[Claim] = ()
