"""Pre-training on more classes: table 2's networks with a star and a sixth convolution.

    minialex reproduce pretraining --data imagenette --pretrain clothing

The larger data set is the data joined with that of --pretrain, just as ImageNet's Fall 2011 release
contains the challenge's classes. The networks without a star are those of tables.py.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from minialex.experiments import PUBLISHED, Claim, Context, Section, Table, errors, measured, paired
from minialex.experiments.data import Data
from minialex.experiments.published import change
from minialex.experiments.report.section import Value

ORDER = 4
TITLE = "Pre-training on more classes"

Outcome = tuple[np.ndarray, np.ndarray, str]  # probabilities, labels, the recipe in a line


def run(context: Context) -> Section:
    """Pre-train the network with six convolutions, fine-tune it, and average it with others."""
    data = context.photographs()
    larger = context.pretraining_data(data)
    if larger is None:
        return Section(findings=["Not run: give a data set with more classes (--pretrain)."])
    plain = context.network()
    model = context.pick(tiny="alexnet-64-six", small="alexnet-64-six", full="alexnet-six")
    six = {**plain, "model": model}
    tuned = {**six, "lr": plain.get("lr", 0.01) / 5, "epochs": max(1, plain["epochs"] // 2)}

    def one(name: str, seed: int) -> Outcome:
        if name == "plain":
            run = context.train("the whole network", data, seed=seed, **plain)
        else:
            first = context.train("pre-training, six convolutions", larger, seed=seed, **six)
            run = context.train("fine-tuning", data, seed=seed, initial=first, **tuned)
        return *run.predictions(10), run.recipe_line()

    starred = context.by_seed(["star"], range(context.pick(tiny=1, small=2, full=2)), one)["star"]
    others = context.by_seed(["plain"], range(context.pick(tiny=2, small=5, full=5)), one)["plain"]
    return report(data, larger, starred, others)


def report(
    data: Data, larger: Data, starred: Mapping[int, Outcome], others: Mapping[int, Outcome]
) -> Section:
    """The rows with and without a star, side by side."""
    rows: list[tuple[Value, ...]] = []
    findings = []
    for name, outcomes, key in (
        ("1 CNN", others, "table2 one"),
        ("1 CNN*", starred, "table2 one*"),
    ):
        of_seeds = [errors(p, labels) for p, labels, _ in outcomes.values()]
        top1, top5 = (measured([e[i] for e in of_seeds]) for i in (0, 1))
        rows.append((name, top1, top5, *_published(key)))
    difference = paired(_top1(starred), _top1(others))
    published = change("table2 one", "table2 one*")
    claim = Claim(
        "Pre-training on more classes, with a sixth convolution, is better",
        published,
        difference,
        -1,
    )
    if difference is not None:
        verdict = difference.verdict_below()
        findings.append(
            f"Pre-trained, with a sixth convolution: {difference.text()} points of top-1 error "
            f"(published: {published}): {verdict}."
        )
    if starred and len(others) > 1:
        labels = next(iter(others.values()))[1]
        plain = [p for p, _, _ in others.values()]
        with_stars = [*plain, *(p for p, _, _ in starred.values())]
        for star, members, key in (("", plain, "table2 five"), ("*", with_stars, "table2 seven")):
            mean = np.mean(members, axis=0)
            rows.append((f"{len(members)} CNNs{star}", *errors(mean, labels), *_published(key)))
    columns = ("model", "top-1 error, %", "top-5 error, %", "published top-1", "top-5")
    caption = "Ten crops. Published: the paper's table 2, ILSVRC-2012 validation."
    lines = [
        data.line,
        f"pre-training on {larger.line}",
        *(outcome[-1] for outcome in starred.values()),
    ]
    table = Table("pretraining", caption, columns, rows)
    return Section(lines[:3], findings, [table], claims=[claim])


def _top1(outcomes: Mapping[int, Outcome]) -> dict[int, float]:
    return {seed: errors(p, labels)[0] for seed, (p, labels, _) in outcomes.items()}


def _published(key: str) -> tuple[Any, Any]:
    return PUBLISHED[key].top1, PUBLISHED[key].top5
