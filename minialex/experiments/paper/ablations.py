"""Ablations: two towers, LRN, overlapping pooling, colour augmentation, dropout and depth.

    minialex reproduce ablations --data imagenette

Each variant is trained with every seed and compared with the whole network of the same seed. At
the small scale each is trained with several learning rates, and the one with the lowest validation
loss, averaged over the seeds, counts: a single rate would favour the network it was chosen for.
Dropout is meant to prevent overfitting, so it is also removed from a training run three times as
long. Sections 3.2 to 3.4, 4 and 7 of the paper.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from minialex import models
from minialex.experiments import (
    PUBLISHED,
    Claim,
    Context,
    Difference,
    Figure,
    Measured,
    Published,
    Run,
    Section,
    Table,
    measured,
    paired,
)
from minialex.experiments.data import Data
from minialex.experiments.report.figures import COLOURS
from minialex.experiments.report.section import Value

ORDER = 2
TITLE = "Ablations: towers, LRN, pooling, dropout, depth"
WHOLE = "the whole network"

# {variant: (key of the published difference, model options)}
Variants = dict[str, tuple[str | None, dict[str, Any]]]
VARIANTS: Variants = {
    WHOLE: (None, {}),
    "half the kernels, one tower": ("half", {"half": True}),
    "towers that never communicate": ("communication", {"communication": False}),
    "no response normalisation": ("norm", {"response_norm": False}),
    "pooling 2 x 2, not overlapping": ("pooling", {"overlapping_pool": False}),
    "no colour shift": ("colour", {}),
    "no dropout": ("dropout", {"dropout": False}),
    **{f"without convolution {i}": ("depth", {"without": f"conv{i}"}) for i in range(1, 6)},
}

# In a longer training run, at the usual learning rate; pictures.py shares the first of them.
LONGER = "trained longer"
VARIANTS_LONGER: Variants = {
    LONGER: (None, {}),
    "no dropout, trained longer": ("dropout", {"dropout": False}),
}

Rate = float | None  # None: the recipe's own


@dataclass(frozen=True)
class Outcome:
    """One run, evaluated: errors in percent, losses after the last epoch."""

    top1: float
    top5: float
    train_loss: float
    val_loss: float
    recipe_line: str


Outcomes = dict[int, Outcome]  # by seed


def run(context: Context) -> Section:
    """Train each variant with every seed and learning rate; each variant's best rate counts."""
    data = context.photographs()
    crops = context.pick(tiny=1, small=1, full=10)
    usual: Rate = context.network().get("lr")
    rates: tuple[Rate, ...] = context.pick(tiny=(usual,), small=(0.001, usual, 0.01), full=(usual,))
    cases = [(name, rate) for name in VARIANTS for rate in rates]
    if context.options.scale != "full":  # where training is long enough anyway
        cases += [(name, usual) for name in VARIANTS_LONGER]

    def train(case: tuple[str, Rate], seed: int) -> Run:
        name, rate = case
        longer = name in VARIANTS_LONGER
        key, options = (VARIANTS_LONGER if longer else VARIANTS)[name]
        settings = context.long_training() if longer else context.network()
        if rate != usual:
            settings["lr"] = rate
        if key == "colour":
            settings["colour_noise"] = 0.0
        if key == "half" and context.options.scale == "full":
            settings |= {"schedule": "2012-half", "epochs": context.epochs(full=96)}
        if options:
            settings["model_options"] = options
        return context.train(name, data, seed=seed, **settings)

    runs = context.by_seed(cases, context.seeds(), train)
    best = {name: best_rate({rate: runs[name, rate] for rate in rates}) for name in VARIANTS}
    best |= {name: rate for name, rate in cases if name in VARIANTS_LONGER}

    def evaluate(run: Run) -> Outcome:
        last = run.history[-1]
        return Outcome(*run.errors(crops), last["train_loss"], last["val_loss"], run.recipe_line())

    outcomes: dict[str, Outcomes] = {}
    for name in best:
        by_seed = runs.get((name, best[name]), {})
        values = {seed: context.attempt(evaluate, run) for seed, run in by_seed.items()}
        outcomes[name] = {seed: value for seed, value in values.items() if value is not None}
    return report(data, crops, best, outcomes, _parameters(context, data))


def _parameters(context: Context, data: Data) -> dict[str, int]:
    """The number of parameters of each variant's network, which has to be known to be fair."""
    name, classes = context.network()["model"], len(data.splits.train.class_ids)
    variants = {**VARIANTS, **VARIANTS_LONGER}
    networks = {key: models.get(name, classes, **options) for key, (_, options) in variants.items()}
    return {key: model.network.parameter_count for key, model in networks.items()}


def best_rate(runs: Mapping[Rate, Mapping[int, Any]]) -> Rate:
    """The learning rate of {rate: {seed: run}} with the lowest mean validation loss.

    Only the rates at which the fewest seeds diverged are compared. None without any run.
    """
    most = max(len(by_seed) for by_seed in runs.values())
    losses = {
        rate: fmean(run.history[-1]["val_loss"] for run in by_seed.values())
        for rate, by_seed in runs.items()
        if by_seed and len(by_seed) == most
    }
    return min(losses, key=losses.__getitem__, default=None)


def report(
    data: Data,
    crops: int,
    best: Mapping[str, Rate],
    outcomes: Mapping[str, Outcomes],
    parameters: Mapping[str, int],
) -> Section:
    """A row for each variant with the published difference, and a figure of the differences."""
    rows: list[tuple[Value, ...]] = []
    differences: dict[str, tuple[Difference, Published]] = {}
    findings = []
    claims: list[Claim] = []
    for whole, variants in ((WHOLE, VARIANTS), (LONGER, VARIANTS_LONGER)):
        for name, (key, _) in variants.items():
            if name not in outcomes:
                continue
            top1, top5, gap = _by_seed(outcomes[name])
            whole_top1, whole_top5, whole_gap = _by_seed(outcomes[whole])
            known = PUBLISHED[key] if key else None
            change, change5 = (
                (paired(top1, whole_top1), paired(top5, whole_top5)) if known else (None, None)
            )
            rate = best.get(name)
            rows.append((
                *(name, parameters[name], f"{rate:g}" if rate else None),
                *(measured(top1), measured(top5)),
                *(change, known.top1 if known else None),
                *(change5, known.top5 if known else None),
                measured(gap),
            ))  # fmt: skip
            if known is not None:
                claims.append(_claim(name, change, paired(gap, whole_gap), known))
            if known is not None and change is not None:
                differences[name] = (change, known)
                findings.append(_finding(name, change, known))
                if key == "dropout":
                    findings[-1] += _overfitting(measured(whole_gap), measured(gap))
    columns = (
        *("variant", "parameters", "learning rate", "top-1 error, %", "top-5 error, %"),
        *("top-1 difference", "published", "top-5 difference", "published"),
        "validation minus training loss",
    )
    sources = "; ".join(
        dict.fromkeys(f"{k.what}: {k.data}, {k.source}" for _, k in differences.values())
    )
    caption = (
        f"Errors on {crops} crop{'s' * (crops > 1)}, and differences in percentage points from the "
        "whole network, with the same seed and as many epochs: above 0, the part helped. "
        f"Published: {sources}."
    )
    lines = [outcome.recipe_line for outcome in outcomes[WHOLE].values()]
    return Section(
        setting=[data.line, *lines[:1]],
        findings=findings,
        tables=[Table("ablations", caption, columns, rows, digits=2)],
        figures=[
            Figure(
                "differences",
                "Difference in top-1 error from the whole network: mean over seeds (dot), 95% "
                "interval (bar) and published difference (cross).",
                "A dot with an interval for each variant, beside a line at zero difference.",
                lambda figure: draw(figure, differences),
                (7.0, 0.6 + 0.34 * (1 + len(differences))),
            )
        ],
        claims=claims,
    )


def _by_seed(
    outcomes: Outcomes,
) -> tuple[dict[int, float], dict[int, float], dict[int, float]]:
    """{seed: value} of top-1 error, of top-5 error, and of validation minus training loss."""
    return (
        {seed: outcome.top1 for seed, outcome in outcomes.items()},
        {seed: outcome.top5 for seed, outcome in outcomes.items()},
        {seed: outcome.val_loss - outcome.train_loss for seed, outcome in outcomes.items()},
    )


def _claim(name: str, change: Difference | None, gap: Difference | None, known: Published) -> Claim:
    """The part that a variant leaves out lowers the error; dropout, which prevents overfitting."""
    subject = name[0].upper() + name[1:]
    if known.top1 is None:
        statement = f"{subject}: validation minus training loss is higher"
        return Claim(statement, "substantially", gap)
    return Claim(f"{subject}: the error is higher", _published(known), change)


def _published(known: Published) -> str:
    return known.what if known.top1 is None else f"{known.bound} {known.top1:+.1f}".strip()


def _finding(name: str, change: Difference, known: Published) -> str:
    return (
        f"{name[0].upper()}{name[1:]}: {change.text()} points of top-1 error (published: "
        f"{_published(known)}): {change.verdict()}."
    )


def _overfitting(whole: Measured | None, without: Measured | None) -> str:
    """Section 4.2's sign of overfitting: how far the validation loss is above the training loss."""
    if whole is None or without is None:
        return ""
    return (
        f" Validation minus training loss: {without.mean:.2f} without dropout, {whole.mean:.2f} "
        "with it (active in the training loss)."
    )


def draw(figure: Any, differences: Mapping[str, tuple[Difference, Published]]) -> None:
    """A dot and an interval for each variant, the published value as a cross."""
    axes = figure.subplots()
    for y, (change, known) in enumerate(differences.values()):
        if change.interval is not None:
            axes.plot(change.interval, (y, y), color=COLOURS[0], linewidth=2)
        label = "this run" if y == 0 else None
        axes.plot([change.mean], [y], "o", color=COLOURS[0], label=label)
        if known.top1 is not None:
            label = "published" if y == 0 else None
            axes.plot([known.top1], [y], "x", color=COLOURS[1], label=label)
    axes.axvline(0, color="#888888", linewidth=0.8)
    axes.set_yticks(range(len(differences)), list(differences))
    axes.set(xlabel="difference in top-1 error, percentage points")
    axes.invert_yaxis()
    if differences:
        axes.legend()
