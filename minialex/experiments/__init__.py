"""`minialex reproduce`: the paper's experiments, one file each, and a report of what came out.

An experiment is a file in experiments/paper/ with a `run(context)` that trains through
`context.train(...)`, so that nothing is computed twice, and hands back a `Section`. What it
trained is in folders under OUT/cells; the report is made from these alone.
"""

from minialex.experiments.context import Asked, Context, Diverged, Run, errors
from minialex.experiments.published import PUBLISHED, Published
from minialex.experiments.report.section import Figure, Picture, Section, Table
from minialex.experiments.statistics import Difference, Measured, measured, paired

__all__ = [
    "PUBLISHED",
    "Asked",
    "Context",
    "Difference",
    "Diverged",
    "Figure",
    "Measured",
    "Picture",
    "Published",
    "Run",
    "Section",
    "Table",
    "alone",
    "errors",
    "measured",
    "paired",
]


def alone(file: str) -> int:
    """Run the experiment in `file` with the options of `minialex reproduce`."""
    import sys
    from pathlib import Path

    from minialex.cli import main

    return main.main(["reproduce", Path(file).stem.replace("_", "-"), *sys.argv[1:]])
