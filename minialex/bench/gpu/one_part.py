"""Runs one part of the suite and writes its result, row by row."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from minialex.bench.gpu import correct, parts
from minialex.bench.gpu.plan import Plan
from minialex.utils import atomic

_LONGEST = 2000  # characters of an error


def run(name: str, plan: Plan, found: dict[str, Any], out: Path) -> None:
    """Run a part; write {"result": ...}, or {"failed": ..., "rows": ...}, to `out`."""
    rows: list[Any] = []
    try:
        [part] = [part for part in parts.every(plan) if part.name == name]
        result = part.run(plan, found)
        if isinstance(result, Iterator):
            for row in result:
                rows.append(row)
                atomic.write_json(out, {"rows": rows})
            result = rows
        atomic.write_json(out, {"result": result})
    except Exception as error:  # the suite goes on
        text = f"{type(error).__name__}: {error}"[:_LONGEST]
        complete = isinstance(error, AssertionError)  # it has compared everything
        lost = isinstance(error, correct.Lost)
        atomic.write_json(out, {"failed": text, "rows": rows, "complete": complete, "lost": lost})
