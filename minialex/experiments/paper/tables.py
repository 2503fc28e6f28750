"""Tables 1 and 2: one network, several averaged, one crop and ten, softmax and hinge loss.

    minialex reproduce tables --data imagenette

The networks are those of ablations.py, with more seeds: what has been trained there is not trained
again. The weights of the weighted average are found on one half of the validation images, and both
averages are judged on the other half.
"""

from itertools import combinations

import numpy as np

from minialex.experiments import (
    PUBLISHED,
    Context,
    Figure,
    Section,
    Table,
    alone,
    errors,
    measured,
    paired,
)

ORDER = 3
TITLE = "Tables 1 and 2"


def run(context: Context) -> Section:
    """Train the networks; average what they say of the validation images."""
    data = context.photographs()
    count = context.pick(tiny=2, small=5, full=5)
    seeds = context.seeds()
    networks = range(max(count, len(seeds)))

    def one(name: str, seed: int):
        more = context.network()
        if name == "hinge":  # its gradient is a sum over the classes: a smaller rate
            rate = context.pick(tiny=0.001, small=0.003, full=0.0001)
            more |= {"loss": "hinge", "lr": rate}
        title = "the whole network" if name == "softmax" else "hinge loss"
        run = context.train(title, data, seed=seed, **more)
        return run.predictions(1)[0], *run.predictions(10), run.recipe_line()

    found = context.by_seed(["softmax"], networks, one)
    found |= context.by_seed(["hinge"], seeds, one)
    return report(data, found["softmax"], found["hinge"])


def weights(p: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """A coefficient a network, as the original found them: (M, N, K) -> (M,).

    One coefficient at a time goes through 0, 0.05 ... 1 and keeps what gives the lowest top-5
    error, from 0.5 each, in at most five rounds.
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


def report(data, softmax, hinge) -> Section:
    """The table, the two averages, and the error by the number of networks."""
    rows, findings, tables, figures = [], [], [], []
    for name, of in (("softmax", softmax), ("hinge", hinge)):
        for crops in (1, 10):
            at = {
                seed: errors(values[0] if crops == 1 else values[1], values[2])
                for seed, values in of.items()
            }
            key = {1: ("table1 centre", None), 10: ("table1 cnn", "table2 one")}[crops]
            rows.append(
                row(
                    f"1 CNN, {name}, {crops} crop{'s' * (crops > 1)}",
                    measured({seed: e[0] for seed, e in at.items()}),
                    measured({seed: e[1] for seed, e in at.items()}),
                    *(key if name == "softmax" else (None, None)),
                )
            )
    change = paired(top1(hinge), top1(softmax))
    if change is not None:
        findings.append(
            f"Hinge in place of softmax loss: {change.text()} points of top-1 error on ten crops. "
            f"{change.verdict()}."
        )
    change = paired(top1(softmax), top1(softmax, ten=False))
    if change is not None:
        findings.append(
            f"Ten crops in place of one: {change.text()} points of top-1 error, published "
            f"{step('table1 centre', 'table1 cnn')}. {change.verdict(expected=-1)}."
        )
    if len(softmax) > 1:
        p = np.stack([values[1] for values in softmax.values()])
        labels = next(iter(softmax.values()))[2]
        both = errors(p.mean(axis=0), labels)
        rows.append(row(f"{len(p)} CNNs, plain mean, 10 crops", *both, None, "table2 five"))
        gain = both[0] - float(np.mean([errors(one, labels)[0] for one in p]))
        findings.append(
            f"The mean of {len(p)} networks has {gain:+.1f} points of top-1 error beside its "
            f"members' mean; published {step('table2 one', 'table2 five')}."
        )
        tables.append(averages(p, labels))
        figures.append(by_number(p, labels))
    known = [row(PUBLISHED[key].what, None, None, *keys) for key, *keys in (
        ("table1 sparse", "table1 sparse", None),
        ("table1 fisher", "table1 fisher", "table2 fisher"),
        ("table2 one*", None, "table2 one*"),
        ("table2 seven", None, "table2 seven"),
    )]  # fmt: skip
    columns = (
        *("model", "top-1 error, %", "top-5 error, %"),
        *("Table 1: top-1", "top-5", "Table 2: top-1", "top-5", "top-5 test"),
    )
    caption = (
        "Errors of this run, and of the paper's tables 1 (ILSVRC-2010 test; one crop from section "
        "4.1) and 2 (ILSVRC-2012 validation, and test). A star: pre-trained on a larger set."
    )
    lines = [values[3] for values in softmax.values()][:1]
    table = Table("tables", caption, columns, [*rows, *known])
    return Section([data.line, *lines], findings, [table, *tables], figures)


def row(name: str, first, fifth, one: str | None, two: str | None) -> tuple:
    """A row of the table; `one` and `two` name the published numbers of tables 1 and 2."""
    of_1, of_2 = (PUBLISHED[key] if key else None for key in (one, two))
    return (
        *(name, first, fifth),
        *((of_1.top1, of_1.top5) if of_1 else (None, None)),
        *((of_2.top1, of_2.top5, of_2.top5_test) if of_2 else (None, None, None)),
    )


def step(before: str, after: str) -> str:
    """From one published top-1 error to another."""
    a, b = PUBLISHED[before].top1, PUBLISHED[after].top1
    return f"{b - a:+.1f} ({a} to {b})"


def top1(of, ten: bool = True) -> dict[int, float]:
    return {seed: errors(v[1] if ten else v[0], v[2])[0] for seed, v in of.items()}


def averages(p: np.ndarray, labels: np.ndarray) -> Table:
    """The plain mean and the weighted one, both on the images the weights have not seen."""
    seen = np.arange(len(labels)) % 2 == 0
    found = weights(p[:, seen], labels[seen])
    rest = labels[~seen]
    text = ", ".join(f"{value:.2f}" for value in found)
    return Table(
        "averages",
        f"Plain and weighted mean of {len(p)} networks on ten crops, over the {len(rest):,} "
        "validation images that the weights were not found on.",
        ("average", "weights", "top-1 error, %", "top-5 error, %"),
        [
            ("plain mean", "equal", *errors(p[:, ~seen].mean(axis=0), rest)),
            ("weights found", text, *errors(np.tensordot(found, p[:, ~seen], 1), rest)),
        ],
    )


def by_number(p: np.ndarray, labels: np.ndarray) -> Figure:
    """Top-1 error by how many networks are averaged, over all choices of so many."""
    counts = range(1, len(p) + 1)
    found = [
        [errors(p[list(some)].mean(axis=0), labels)[0] for some in combinations(range(len(p)), n)]
        for n in counts
    ]

    def draw(figure) -> None:
        axes = figure.subplots()
        for n, values in zip(counts, found, strict=True):
            axes.plot([n] * len(values), values, "o", color="#4477aa", alpha=0.5)
        axes.plot(counts, [np.mean(values) for values in found], color="#cc6677", label="mean")
        axes.set(xlabel="networks averaged", ylabel="top-1 error on ten crops, %")
        axes.set_xticks(list(counts))
        axes.legend()

    return Figure(
        "ensemble",
        "Top-1 error by the number of networks averaged: a dot a choice of networks.",
        "Dots for each number of networks from one up, and a line through their means.",
        draw,
    )


if __name__ == "__main__":
    raise SystemExit(alone(__file__))
