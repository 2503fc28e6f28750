"""An experiment that takes no time, instead of those of minialex.experiments.paper."""

import sys
import textwrap

import pytest

from minialex.experiments import paper

QUICK = '''
"""An experiment that counts how often it computes."""

from pathlib import Path
from minialex.experiments import Claim, Context, Figure, Section, Table, measured, paired

TITLE = "Quick & <odd>"
ORDER = 1


def run(context):
    def one(name, seed):
        def compute(folder):
            with (context.out / "computed").open("a") as file:
                file.write(f"{name} {seed}\\n")
            error = {"whole": 40.0, "part": 42.0 + seed / 10}[name]
            return error + seed ** 2 / 10
        return context.cached(f"{name}, seed {seed}", {"name": name, "seed": seed,
                            "epochs": context.epochs(tiny=1, small=2, full=3)}, compute)

    found = context.by_seed(["whole", "part"], context.seeds(), one)
    change = paired(found["part"], found["whole"])
    rows = [("whole", measured(found["whole"]), None), ("part", measured(found["part"]), change)]
    findings = [] if change is None else [f"{change.text()}. {change.verdict()}."]
    table = Table("numbers", "Made up.", ("name", "error", "difference"), rows)
    draw = lambda figure: figure.subplots().plot([1, 2])
    return Section(["made up"], findings, [table],
                   [Figure("line", "A line.", "A line that rises", draw)],
                   [Claim("The part costs", "more than +1.0", change),
                    Claim("The part gains", None, change, -1), Claim("Forgotten", 3.0, None)])
'''


@pytest.fixture
def quick(tmp_path, monkeypatch):
    """`quick`, as the only experiment there is."""
    folder = tmp_path / "experiments"
    folder.mkdir()
    (folder / "quick.py").write_text(textwrap.dedent(QUICK))
    monkeypatch.setattr(paper, "__path__", [str(folder)])
    monkeypatch.delitem(sys.modules, "minialex.experiments.paper.quick", raising=False)
    yield folder
    sys.modules.pop("minialex.experiments.paper.quick", None)


@pytest.fixture
def computed():
    """What has been computed in a report's folder, in order."""

    def read(out):
        path = out / "computed"
        return path.read_text().splitlines() if path.exists() else []

    return read
