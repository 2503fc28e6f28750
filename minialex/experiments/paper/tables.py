"""Tables 1 and 2: one network and ensembles, one crop and ten, softmax and hinge loss.

    minialex reproduce tables --data imagenette

At the tiny and the full scale, the runs of ablations.py are reused, with more seeds. The weights of
the weighted ensemble are fitted on half of the validation images, and both ensembles are
evaluated on the other half.
"""

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np

from minialex.experiments import (
    PUBLISHED,
    Claim,
    Context,
    Difference,
    Figure,
    Section,
    Table,
    errors,
    measured,
    paired,
)
from minialex.experiments.data import Data
from minialex.experiments.published import TABLE_COLUMNS, change, table_values
from minialex.experiments.report.figures import COLOURS
from minialex.experiments.report.section import Value

ORDER = 3
TITLE = "Tables 1 and 2"

# probabilities (N, K) on one crop and on ten, labels (N,), the recipe in a line
Outcome = tuple[np.ndarray, np.ndarray, np.ndarray, str]


def run(context: Context) -> Section:
    """Train the networks, and average their probabilities on the validation images."""
    data = context.photographs()
    count = context.pick(tiny=2, small=5, full=5)
    seeds = context.seeds()
    networks = range(max(count, len(seeds)))

    def one(name: str, seed: int) -> Outcome:
        settings = context.network()
        if name == "hinge":  # its gradient is a sum over the classes: a lower learning rate
            rate = context.pick(tiny=0.001, small=0.003, full=0.0001)
            settings |= {"loss": "hinge", "lr": rate}
        title = "the whole network" if name == "softmax" else "hinge loss"
        run = context.train(title, data, seed=seed, **settings)
        return run.predictions(1)[0], *run.predictions(10), run.recipe_line()

    outcomes = context.by_seed(["softmax"], networks, one)
    outcomes |= context.by_seed(["hinge"], seeds, one)
    return report(data, outcomes["softmax"], outcomes["hinge"])


def fit_weights(p: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The weight of each network in an ensemble, as the authors' code found them: (M, N, K) -> (M,)

    Coordinate descent on the top-5 error: one weight at a time takes the best of 0, 0.05 ... 1,
    starting from 0.5 each, for at most five rounds.
    """
    best = np.full(len(p), 0.5)
    lowest = errors(np.tensordot(best, p, 1), labels)[1]
    for _ in range(5):
        before = lowest
        for i in range(len(p)):
            for value in np.linspace(0, 1, 21):
                tried = best.copy()
                tried[i] = value
                if not tried.any():
                    continue
                error = errors(np.tensordot(tried, p, 1), labels)[1]
                if error < lowest:
                    best, lowest = tried, error
        if lowest == before:
            break
    return best


def report(data: Data, softmax: Mapping[int, Outcome], hinge: Mapping[int, Outcome]) -> Section:
    """The paper's tables, the two ensembles, and the error by the number of networks."""
    rows: list[tuple[Value, ...]] = []
    findings: list[str] = []
    claims: list[Claim] = []
    tables: list[Table] = []
    figures: list[Figure] = []
    known: tuple[str | None, str | None]
    for name, outcomes in (("softmax", softmax), ("hinge", hinge)):
        for crops in (1, 10):
            of_seeds = [
                errors(one if crops == 1 else ten, labels)
                for one, ten, labels, _ in outcomes.values()
            ]
            known = ("table1 centre", None) if crops == 1 else ("table1 cnn", "table2 one")
            rows.append((
                f"1 CNN, {name}, {crops} crop{'s' * (crops > 1)}",
                measured([e[0] for e in of_seeds]),
                measured([e[1] for e in of_seeds]),
                *(table_values(*known) if name == "softmax" else table_values(None, None)),
            ))  # fmt: skip
    difference = paired(_top1(hinge), _top1(softmax))
    if difference is not None:
        meaning = difference.verdict("softmax is better", "hinge is better")
        findings.append(
            f"Hinge instead of softmax loss: {difference.text()} points of top-1 error on ten "
            f"crops: {meaning}."
        )
    difference = paired(_top1(softmax), _top1(softmax, crops=1))
    known_change = change("table1 centre", "table1 cnn")
    claims.append(Claim("Ten crops are better than one", known_change, difference, -1))
    if difference is not None:
        findings.append(
            f"Ten crops instead of one: {difference.text()} points of top-1 error (published: "
            f"{known_change}): {difference.verdict_below()}."
        )
    if len(softmax) > 1:
        p = np.stack([ten for _, ten, _, _ in softmax.values()])
        labels = next(iter(softmax.values()))[2]
        both = errors(p.mean(axis=0), labels)
        rows.append((f"{len(p)} CNNs, mean, 10 crops", *both, *table_values(None, "table2 five")))
        gain = both[0] - float(np.mean([errors(one, labels)[0] for one in p]))
        known_change = change("table2 one", "table2 five")
        statement = f"The mean of {len(p)} networks is better than one"
        claims.append(Claim(statement, known_change, Difference((gain,)), -1))
        findings.append(
            f"Ensemble of {len(p)} networks: {gain:+.1f} points of top-1 error, compared with the "
            f"mean of its members (published: {known_change})."
        )
        tables.append(ensembles(p, labels))
        figures.append(by_size(p, labels))
    rows += [
        (PUBLISHED[key].what, None, None, *table_values(*known))
        for key, *known in (
            ("table1 sparse", "table1 sparse", None),
            ("table1 fisher", "table1 fisher", "table2 fisher"),
            ("table2 one*", None, "table2 one*"),
            ("table2 seven", None, "table2 seven"),
        )
    ]
    caption = (
        "Errors of this run, and of the paper's tables 1 (ILSVRC-2010 test; one crop from section "
        "4.1) and 2 (ILSVRC-2012 validation, and test). A star: pre-trained on more classes."
    )
    columns = ("model", "top-1 error, %", "top-5 error, %", *TABLE_COLUMNS)
    lines = [line for *_, line in softmax.values()][:1]
    table = Table("tables", caption, columns, rows)
    return Section([data.line, *lines], findings, [table, *tables], figures, claims)


def _top1(outcomes: Mapping[int, Outcome], crops: int = 10) -> dict[int, float]:
    return {
        seed: errors(one if crops == 1 else ten, labels)[0]
        for seed, (one, ten, labels, _) in outcomes.items()
    }


def ensembles(p: np.ndarray, labels: np.ndarray) -> Table:
    """The mean and the weighted mean, both on the images that the weights were not fitted on."""
    fitted = np.arange(len(labels)) % 2 == 0
    weights = fit_weights(p[:, fitted], labels[fitted])
    rest = labels[~fitted]
    text = ", ".join(f"{value:.2f}" for value in weights)
    return Table(
        "averages",
        f"Mean and weighted mean of {len(p)} networks on ten crops, on the {len(rest):,} "
        "validation images that the weights were not fitted on.",
        ("ensemble", "weights", "top-1 error, %", "top-5 error, %"),
        [
            ("mean", "equal", *errors(p[:, ~fitted].mean(axis=0), rest)),
            ("weighted mean", text, *errors(np.tensordot(weights, p[:, ~fitted], 1), rest)),
        ],
    )


def by_size(p: np.ndarray, labels: np.ndarray) -> Figure:
    """Top-1 error by the size of the ensemble, over all choices of its members."""
    sizes = range(1, len(p) + 1)
    values = [
        [errors(p[list(some)].mean(axis=0), labels)[0] for some in combinations(range(len(p)), n)]
        for n in sizes
    ]

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for n, of_size in zip(sizes, values, strict=True):
            axes.plot([n] * len(of_size), of_size, "o", color=COLOURS[0], alpha=0.5)
        axes.plot(sizes, [np.mean(of_size) for of_size in values], color=COLOURS[1], label="mean")
        axes.set(xlabel="networks in the ensemble", ylabel="top-1 error on ten crops, %")
        axes.set_xticks(list(sizes))
        axes.legend()

    return Figure(
        "ensemble",
        "Top-1 error by the number of networks in the ensemble, a dot for each choice of networks.",
        "Dots for each number of networks, and a line through their means.",
        draw,
    )
