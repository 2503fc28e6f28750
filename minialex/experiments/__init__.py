"""`minialex reproduce`: the paper's experiments, and a report with the published numbers.

An experiment is a module of `paper/` whose `run(context)` trains and evaluates through
`context.train(...)` and `context.cached(...)`, so that nothing is computed twice, and returns a
`Section`. Results are stored in folders under OUT/cells; the report is made from these alone.
"""

from minialex.experiments.context import Context
from minialex.experiments.options import Options
from minialex.experiments.over_seeds import Difference, Measured, Ratio, measured, paired
from minialex.experiments.published import PUBLISHED, Published
from minialex.experiments.report.section import Claim, Figure, Picture, Section, Table
from minialex.experiments.training import Diverged, Run, errors

__all__ = [
    "PUBLISHED",
    "Claim",
    "Context",
    "Difference",
    "Diverged",
    "Figure",
    "Measured",
    "Options",
    "Picture",
    "Published",
    "Ratio",
    "Run",
    "Section",
    "Table",
    "errors",
    "measured",
    "paired",
]
