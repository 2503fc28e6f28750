"""The rivals of tables 1 and 2, SIFT with Fisher vectors and sparse coding, on the same images.

    minialex reproduce rivals --data imagenette

Needs `pip install 'minialex[baselines]'`. The network beside them is that of ablations.py: what has
been trained there is not trained again.
"""

from typing import Any

from minialex.baselines import common, sift_fisher, sparse_coding
from minialex.experiments import PUBLISHED, Context, Section, Table, alone, measured, paired

ORDER = 5
TITLE = "The rivals of the tables"
FISHER, SPARSE = "SIFT + Fisher vectors", "Sparse coding"
ONE, TEN = "CNN, one crop", "CNN, ten crops"
LONGER = "CNN, trained longer, ten crops"
METHODS = {FISHER: sift_fisher, SPARSE: sparse_coding}

# The published rows of tables 1 and 2 beside each of ours.
KNOWN = {
    FISHER: ("table1 fisher", "table2 fisher"),
    SPARSE: ("table1 sparse", None),
    ONE: ("table1 centre", None),
    TEN: ("table1 cnn", "table2 one"),
    LONGER: (None, None),
}


def run(context: Context) -> Section:
    """Judge the rivals and the network by the same validation images, with every seed."""
    data = context.photographs()
    # Their vectors and the classifiers on them are held in memory: not those of a million images.
    learnt = data if context.asked.scale != "full" else context.data(50_000, None)
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

    def rival(name: str, seed: int):
        settings = {"rival": name, "data": learnt.described, "seed": seed, **options[name]}

        def compute(_folder):
            found = METHODS[name].run(learnt.splits, seed=seed, progress=False, **options[name])
            return 100 * found.top1_error, 100 * found.top5_error, found.method

        return context.cell(
            f"{name}, seed {seed}",
            settings,
            compute,
            require=lambda: common.require("cv2", "skimage", "sklearn"),
        )

    def one(name: str, seed: int):
        if name in METHODS:
            return rival(name, seed)
        if name == LONGER:  # the rivals have all the time they need
            run = context.train("trained longer", data, seed=seed, **context.longer())
        else:
            run = context.train("the whole network", data, seed=seed, **context.network())
        return *run.errors(1 if name == ONE else 10), run.recipe_line()

    names = [name for name in KNOWN if name != LONGER or context.asked.scale != "full"]
    found = context.by_seed(names, context.seeds(), one)
    lines = [data.line] if learnt is data else [data.line, f"the rivals learn from {learnt.line}"]
    return report(lines, found)


def report(lines, found) -> Section:
    """A row a method, and what separates each rival from the network."""
    rows, findings = [], []
    at = {name: {s: v[0] for s, v in of.items()} for name, of in found.items()}
    for name, of in found.items():
        fifth = measured([values[1] for values in of.values()])
        rows.append((name, measured(at[name]), fifth, *published(*KNOWN[name])))
    for name in METHODS:
        for network in (TEN, LONGER):
            change = paired(at[name], at.get(network, {}))
            if change is not None:
                one, other = (PUBLISHED[KNOWN[key][0]].top1 for key in (name, TEN))
                findings.append(
                    f"{name} beside {network}: {change.text()} points of top-1 error, published "
                    f"{one - other:+.1f} ({other} to {one}). {worse(change)}."
                )
    columns = (
        *("method", "top-1 error, %", "top-5 error, %"),
        *("Table 1: top-1", "top-5", "Table 2: top-1", "top-5", "top-5 test"),
    )
    caption = (
        "Errors of this run on the same images, and of the paper's tables 1 (ILSVRC-2010 test; one "
        "crop from section 4.1) and 2 (ILSVRC-2012 validation, and test)."
    )
    how = [next(iter(of.values()))[2] for name, of in found.items() if of and name != ONE]
    return Section([*lines, *how], findings, [Table("rivals", caption, columns, rows)])


def worse(change) -> str:
    """Which of the two is better here, by the interval alone."""
    if change.interval is None:
        return change.verdict()
    low, high = change.interval
    if low <= 0 <= high:
        return "Neither is better here: the interval includes 0"
    return "The network wins" if low > 0 else "The rival wins here: the other way round"


def published(one: str | None, two: str | None) -> tuple:
    """The published errors of tables 1 and 2; None where there is none."""
    of_1, of_2 = (PUBLISHED[key] if key else None for key in (one, two))
    return (
        *((of_1.top1, of_1.top5) if of_1 else (None, None)),
        *((of_2.top1, of_2.top5, of_2.top5_test) if of_2 else (None, None, None)),
    )


if __name__ == "__main__":
    raise SystemExit(alone(__file__))
