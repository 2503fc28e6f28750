"""Baselines of tables 1 and 2: SIFT with Fisher vectors, and sparse coding.

    minialex reproduce baselines --data imagenette

Needs `pip install 'minialex[baselines]'`. The network on the same images is that of tables.py,
whose training runs are reused.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from minialex.baselines import common, sift_fisher, sparse_coding
from minialex.experiments import Claim, Context, Difference, Section, Table, measured, paired
from minialex.experiments.data import Data
from minialex.experiments.published import TABLE_COLUMNS, change, table_values
from minialex.experiments.report.section import Value

ORDER = 5
TITLE = "Baselines: SIFT with Fisher vectors, sparse coding"
FISHER, SPARSE = "SIFT + Fisher vectors", "Sparse coding"
ONE, TEN = "CNN, one crop", "CNN, ten crops"
LONGER = "CNN, trained longer, ten crops"
METHODS = {FISHER: sift_fisher, SPARSE: sparse_coding}

# {row: (key of its row in table 1, key of its row in table 2)}
KNOWN: dict[str, tuple[str | None, str | None]] = {
    FISHER: ("table1 fisher", "table2 fisher"),
    SPARSE: ("table1 sparse", None),
    ONE: ("table1 centre", None),
    TEN: ("table1 cnn", "table2 one"),
    LONGER: (None, None),
}
COMPARED = {FISHER: "table1 fisher", SPARSE: "table1 sparse"}

Outcome = tuple[float, float, str]  # top-1 and top-5 error in percent, the method in a line


def run(context: Context) -> Section:
    """Evaluate the baselines and the network on the same validation images, with every seed."""
    data = context.photographs()
    # Feature vectors and SVMs are kept in memory: too much for a million images.
    train_data = data if context.options.scale != "full" else context.data(50_000, None)
    fisher: dict[str, Any] = context.pick(
        tiny={"size": 64, "step": 16, "gaussians": 4, "components": 16, "sample": 1000},
        small={"step": 6},
        full={"size": 256, "gaussians": 64, "sample": 200_000},
    )
    sparse: dict[str, Any] = context.pick(
        tiny={"size": 32, "step": 4, "atoms": 16, "sample": 500},
        small={},
        full={"size": 96, "atoms": 512, "sample": 50_000},
    )
    options = {FISHER: fisher, SPARSE: sparse}

    def one(name: str, seed: int) -> Outcome:
        if name in METHODS:
            return baseline(context, name, train_data, seed, options[name])
        if name == LONGER:  # the baselines also have all the time they need
            run = context.train("trained longer", data, seed=seed, **context.long_training())
        else:
            run = context.train("the whole network", data, seed=seed, **context.network())
        return *run.errors(1 if name == ONE else 10), run.recipe_line()

    names = [name for name in KNOWN if name != LONGER or context.options.scale != "full"]
    outcomes = context.by_seed(names, context.seeds(), one)
    lines = [data.line]
    if train_data is not data:
        lines.append(f"baselines trained on {train_data.line}")
    return report(lines, outcomes)


def baseline(
    context: Context, name: str, data: Data, seed: int, options: Mapping[str, Any]
) -> Outcome:
    """Train and evaluate one of METHODS, or take the result from an earlier run."""
    # "rival" is the key that earlier results are cached under
    settings = {"rival": name, "data": data.key, "seed": seed, **options}

    def compute(_folder: Path) -> Outcome:
        outcome = METHODS[name].run(data.splits, seed=seed, progress=False, **options)
        return 100 * outcome.top1_error, 100 * outcome.top5_error, outcome.method

    top1, top5, method = context.cached(
        f"{name}, seed {seed}",
        settings,
        compute,
        require=lambda: common.require("cv2", "skimage", "sklearn"),
    )
    return top1, top5, method


def report(lines: Sequence[str], outcomes: Mapping[str, Mapping[int, Outcome]]) -> Section:
    """A row for each method, and the differences between each baseline and the network."""
    rows: list[tuple[Value, ...]] = []
    findings = []
    claims: list[Claim] = []
    top1 = {
        name: {seed: outcome[0] for seed, outcome in by_seed.items()}
        for name, by_seed in outcomes.items()
    }
    for name, by_seed in outcomes.items():
        top5 = measured([outcome[1] for outcome in by_seed.values()])
        rows.append((name, measured(top1[name]), top5, *table_values(*KNOWN[name])))
    for name, key in COMPARED.items():
        for network in (TEN, LONGER):
            difference = paired(top1[name], top1.get(network, {}))
            statement, lower = f"{network} is better than {name}", change(key, "table1 cnn")
            claims.append(Claim(statement, lower, paired(top1.get(network, {}), top1[name]), -1))
            if difference is not None:
                findings.append(
                    f"{name} compared with {network}: {difference.text()} points of top-1 error "
                    f"(published: {change('table1 cnn', key)}): {winner(name, difference)}."
                )
    caption = (
        "Errors of this run on the same images, and of the paper's tables 1 (ILSVRC-2010 test; one "
        "crop from section 4.1) and 2 (ILSVRC-2012 validation, and test)."
    )
    columns = ("method", "top-1 error, %", "top-5 error, %", *TABLE_COLUMNS)
    methods = [
        next(iter(by_seed.values()))[2]
        for name, by_seed in outcomes.items()
        if by_seed and name != ONE
    ]
    table = Table("baselines", caption, columns, rows)
    return Section([*lines, *methods], findings, [table], claims=claims)


def winner(name: str, difference: Difference) -> str:
    """Which of the two is better here, judging by the interval alone."""
    above, below = "the network wins, as in the paper", f"opposite of the paper, {name} wins"
    return difference.verdict(above, below)
