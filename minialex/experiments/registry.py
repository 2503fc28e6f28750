"""The experiments: the modules of minialex.experiments.paper, and those that users plug in.

Each has TITLE, ORDER (its position in the report) and `run(context) -> Section`. A new module with
these is a new experiment; so is a user's own file, `minialex reproduce my.py`.
"""

import importlib
import pkgutil
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from minialex.errors import InputError, unknown
from minialex.experiments import paper
from minialex.experiments.context import Context
from minialex.experiments.report.section import Section
from minialex.utils.plugins import load_file

# Earlier names; `minialex reproduce` and the folders of earlier reports may still use them.
ALIASES = {"rivals": "baselines"}


@dataclass(frozen=True)
class Experiment:
    """One experiment: `about` is the first line of its module's docstring."""

    name: str
    title: str
    order: int
    about: str
    module: ModuleType

    def run(self, context: Context) -> Section:
        """Compute what is missing; -> the experiment's part of the report."""
        return self.module.run(context)


_GROUP = "minialex.experiments"
_LAST = 1000  # sort key of an experiment without ORDER
_registered: dict[str, Experiment] = {}


def register(name: str, module: ModuleType) -> None:
    """Register a module with TITLE and `run(context) -> Section` as the experiment `name`.

    A package can provide one through an entry point of the group "minialex.experiments".
    """
    if name in _built_in():
        raise InputError(f"the experiment name {name!r} is taken: choose another name")
    _registered[name] = _experiment(name, module)


def use(name: str) -> str:
    """The name of an experiment given by its name, or as a Python file, which is run."""
    if not name.endswith(".py"):
        return ALIASES.get(name, name)
    found = _name(Path(name).stem)
    register(found, load_file(Path(name)))
    return found


def experiments() -> dict[str, Experiment]:
    """{name: experiment}, in the report's order."""
    plugged = {
        point.name: _experiment(point.name, point.load()) for point in entry_points(group=_GROUP)
    }
    found = {**plugged, **_registered, **_built_in()}
    return {one.name: one for one in sorted(found.values(), key=lambda one: (one.order, one.name))}


def select(names: list[str]) -> list[Experiment]:
    """The experiments called `names`, or all; InputError for an unknown name, with a suggestion."""
    wanted = [use(name) for name in names]
    known = experiments()
    for name in wanted:
        if name not in known:
            raise unknown("experiment", name, known)
    return [one for name, one in known.items() if not wanted or name in wanted]


def _built_in() -> dict[str, Experiment]:
    found = {}
    for info in pkgutil.iter_modules(paper.__path__):
        module = importlib.import_module(f"{paper.__name__}.{info.name}")
        if hasattr(module, "run"):
            name = _name(info.name)
            found[name] = _experiment(name, module)
    return found


def _experiment(name: str, module: ModuleType) -> Experiment:
    missing = [word for word in ("TITLE", "run") if not hasattr(module, word)]
    if missing:
        raise InputError(
            f"the experiment {name!r} has no {' and no '.join(missing)}: it needs TITLE = ... and "
            "run(context) -> Section"
        )
    about = (module.__doc__ or name).strip().splitlines()[0]
    return Experiment(name, module.TITLE, getattr(module, "ORDER", _LAST), about, module)


def _name(module: str) -> str:
    return module.replace("_", "-")
