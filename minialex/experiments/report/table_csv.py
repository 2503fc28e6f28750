"""A table of the report as CSV, with unrounded numbers."""

import csv
import io

from minialex.experiments.over_seeds import Difference, Measured
from minialex.experiments.report.section import Table

_SUFFIXES: dict[type[Measured] | None, tuple[str, ...]] = {
    None: ("",),
    Measured: (" mean", " standard deviation", " runs"),
    Difference: (" mean", " standard deviation", " runs", " low", " high"),
}


def table_csv(table: Table) -> str:
    """A `Measured` column becomes three: mean, standard deviation, runs; a `Difference` has the
    bounds of its interval too."""
    columns = list(zip(*table.rows, strict=True)) or [()] * len(table.columns)
    kinds: list[type[Measured] | None] = [
        next((_kind(value) for value in column if isinstance(value, Measured)), None)
        for column in columns
    ]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    names = zip(table.columns, kinds, strict=True)
    writer.writerow([column + suffix for column, kind in names for suffix in _SUFFIXES[kind]])
    for row in table.rows:
        cells: list[object] = []
        for value, kind in zip(row, kinds, strict=True):
            numbers = _numbers(value)
            cells += [*numbers, *[None] * (len(_SUFFIXES[kind]) - len(numbers))]
        writer.writerow(cells)
    return stream.getvalue()


def _kind(value: Measured) -> type[Measured]:
    return Difference if isinstance(value, Difference) else Measured


def _numbers(value: object) -> list[object]:
    if not isinstance(value, Measured):
        return [value]
    numbers: list[object] = [value.mean, value.std, len(value.values)]
    if isinstance(value, Difference):
        numbers += value.interval or (None, None)
    return numbers
