"""The experiments: one file each, found by being in the folder.

A file of `experiments/paper/` has TITLE, ORDER (its place in the report) and
`run(context) -> Section`; a new file with these is a new experiment.
"""

import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from minialex.errors import unknown
from minialex.experiments.context import Context
from minialex.experiments.report.section import Section


@dataclass(frozen=True)
class Experiment:
    """One file: `about` is the first line of its docstring."""

    name: str
    title: str
    order: int
    about: str
    path: Path

    def run(self, context: Context) -> Section:
        return _module(self.path).run(context)


def folder() -> Path:
    """Where the experiments are."""
    return Path(__file__).parent / "paper"


def experiments() -> dict[str, Experiment]:
    """All experiments by name, in the report's order."""
    found = []
    for path in folder().glob("[a-z]*.py"):
        module = _module(path)
        if not hasattr(module, "run"):
            continue
        about = (module.__doc__ or path.stem).splitlines()[0]
        name = path.stem.replace("_", "-")
        found.append(Experiment(name, module.TITLE, module.ORDER, about, path))
    return {one.name: one for one in sorted(found, key=lambda one: (one.order, one.name))}


def chosen(names: list[str]) -> list[Experiment]:
    """The experiments called `names`, or all; InputError names the nearest for another."""
    known = experiments()
    for name in names:
        if name not in known:
            raise unknown("experiment", name, known)
    return [one for name, one in known.items() if not names or name in names]


@cache
def _module(path: Path):
    spec = importlib.util.spec_from_file_location(f"minialex.experiments.paper.{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
