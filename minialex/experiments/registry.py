"""The experiments: the modules of minialex.experiments.paper.

Each has TITLE, ORDER (its position in the report) and `run(context) -> Section`. A new module with
these is a new experiment.
"""

import importlib
import pkgutil
from dataclasses import dataclass
from types import ModuleType

from minialex.errors import unknown
from minialex.experiments import paper
from minialex.experiments.context import Context
from minialex.experiments.report.section import Section

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


def experiments() -> dict[str, Experiment]:
    """{name: experiment}, in the report's order."""
    found = []
    for info in pkgutil.iter_modules(paper.__path__):
        module = importlib.import_module(f"{paper.__name__}.{info.name}")
        if not hasattr(module, "run"):
            continue
        about = (module.__doc__ or info.name).splitlines()[0]
        name = info.name.replace("_", "-")
        found.append(Experiment(name, module.TITLE, module.ORDER, about, module))
    return {one.name: one for one in sorted(found, key=lambda one: (one.order, one.name))}


def select(names: list[str]) -> list[Experiment]:
    """The experiments called `names`, or all; InputError for an unknown name, with a suggestion."""
    known = experiments()
    wanted = [ALIASES.get(name, name) for name in names]
    for name in wanted:
        if name not in known:
            raise unknown("experiment", name, known)
    return [one for name, one in known.items() if not wanted or name in wanted]
