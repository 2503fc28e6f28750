"""Table 2's star: a sixth convolution, pre-trained on more classes, then fine-tuned.

    minialex reproduce pretraining --data imagenette --pretrain clothing

The larger class set is the data's own classes together with those that --pretrain names, as
ImageNet's whole release holds the challenge's. The networks without a star are those of tables.py.
"""

import numpy as np

from minialex.experiments import PUBLISHED, Context, Section, Table, alone, errors, measured, paired

ORDER = 4
TITLE = "Pre-trained on more classes"


def run(context: Context) -> Section:
    """Train the sixth-layer network on the larger set, fine-tune it, and average it with others."""
    data = context.photographs()
    larger = context.larger(data)
    if larger is None:
        return Section(findings=["Not run: name a larger class set with --pretrain."])
    plain = context.network()
    six = {**plain, "model": context.pick(tiny="alexnet-64-six", small="alexnet-64-six",
                                          full="alexnet-six")}  # fmt: skip
    tuned = {**six, "lr": plain.get("lr", 0.01) / 5, "epochs": max(1, plain["epochs"] // 2)}

    def one(name: str, seed: int):
        if name == "plain":
            run = context.train("the whole network", data, seed=seed, **plain)
        else:
            first = context.train("pre-training, six convolutions", larger, seed=seed, **six)
            run = context.train("fine-tuning", data, seed=seed, initial=first, **tuned)
        return *run.predictions(10), run.recipe_line()

    starred = context.by_seed(["star"], range(context.pick(tiny=1, small=2, full=2)), one)["star"]
    others = context.by_seed(["plain"], range(context.pick(tiny=2, small=5, full=5)), one)["plain"]
    return report(data, larger, starred, others)


def report(data, larger, starred, others) -> Section:
    """The two rows with a star, beside the ones without."""
    rows, findings = [], []
    for name, of, key in (("1 CNN", others, "table2 one"), ("1 CNN*", starred, "table2 one*")):
        at = {seed: errors(p, labels) for seed, (p, labels, _) in of.items()}
        top1, top5 = (measured([e[i] for e in at.values()]) for i in (0, 1))
        rows.append((name, top1, top5, PUBLISHED[key].top1, PUBLISHED[key].top5))
    change = paired(*({s: errors(p, l)[0] for s, (p, l, _) in of.items()}
                      for of in (starred, others)))  # fmt: skip
    if change is not None:
        before, after = PUBLISHED["table2 one"].top1, PUBLISHED["table2 one*"].top1
        findings.append(
            f"Pre-trained, with a sixth convolution: {change.text()} points of top-1 error, "
            f"published {after - before:+.1f}. {change.verdict(expected=-1)}."
        )
    if starred and len(others) > 1:
        labels = next(iter(others.values()))[1]
        for some, key in (
            (others, "table2 five"),
            ({**others, **shifted(starred)}, "table2 seven"),
        ):
            p = np.mean([p for p, _, _ in some.values()], axis=0)
            star = "*" if len(some) > len(others) else ""
            published = PUBLISHED[key].top1, PUBLISHED[key].top5
            rows.append((f"{len(some)} CNNs{star}", *errors(p, labels), *published))
    columns = ("model", "top-1 error, %", "top-5 error, %", "published top-1", "top-5")
    caption = "Ten crops. Published: the paper's table 2, ILSVRC-2012 validation."
    lines = [
        data.line,
        f"pre-training on {larger.line}",
        *(values[-1] for values in starred.values()),
    ]
    return Section(lines[:3], findings, [Table("pretraining", caption, columns, rows)])


def shifted(starred) -> dict:
    """Keys of their own beside the other networks' seeds."""
    return {f"star {seed}": values for seed, values in starred.items()}


if __name__ == "__main__":
    raise SystemExit(alone(__file__))
