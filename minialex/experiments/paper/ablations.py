"""Ablations: two towers, LRN, overlapping pooling, colour augmentation, dropout and depth.

    minialex reproduce ablations --data cifar-10-batches-bin

Each variant is trained with every seed and compared with the whole network of the same seed. At
the small scale, a network for 32 x 32 images is trained until its learning rate has decayed to
zero, on so few images that it fits them. In a pilot without dropout, 20 epochs of all 50,000 images
left an error of 26% on training images and 29% on others; 120 epochs of 10,000, a fifth more work,
left 6% and 35%. The report says how well the network fits its images. The first seed tries two
learning rates, and the other seeds use the one with the lower validation loss: a single rate would
favour the network it was chosen for. Without dropout it is the rate with the lower training loss:
that variant shows overfitting, and the validation loss prefers a network that fits nothing.
Sections 3.2 to 3.4, 4 and 7 of the paper.
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
from minialex.experiments.report.text import duration

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

# at the small scale
IMAGES, EPOCHS = 10_000, 120
RATES = (0.01, 0.02)

Rate = float | None  # None: the recipe's own


@dataclass(frozen=True)
class Outcome:
    """One run, evaluated: errors in percent, losses after the last epoch, and its time."""

    top1: float
    top5: float
    training_error: float  # top-1
    train_loss: float
    val_loss: float
    seconds: float
    recipe_line: str


Outcomes = dict[int, Outcome]  # by seed


def run(context: Context) -> Section:
    """Train each variant with every seed; the first seed chooses its learning rate."""
    data, plain = _data(context), _settings(context)
    crops = context.pick(tiny=1, small=1, full=10)
    usual: Rate = plain.get("lr")
    rates: tuple[Rate, ...] = context.pick(tiny=(usual,), small=RATES, full=(usual,))

    def evaluate(run: Run) -> Outcome:
        last = run.history[-1]
        fit = run.training_error(context.pick(tiny=24, small=IMAGES, full=50_000))
        losses = (last["train_loss"], last["val_loss"])
        judged = run.errors(crops, keep_predictions=context.options.scale != "small")
        return Outcome(*judged, fit, *losses, run.seconds, run.recipe_line())

    def train(case: tuple[str, Rate], seed: int) -> Run:
        name, rate = case
        key, options = VARIANTS[name]
        settings = dict(plain)
        if rate != usual:
            settings["lr"] = rate
        if key == "colour":
            settings["colour_noise"] = 0.0
        if key == "half" and context.options.scale == "full":
            settings |= {"schedule": "2012-half", "epochs": context.epochs(full=96)}
        if options:
            settings["model_options"] = options
        run = context.train(name, data, seed=seed, **settings)
        evaluate(run)  # while its weights are there: --keep takes only results to other machines
        return run

    first, *others = context.seeds(tiny=1, small=5, full=1)
    tried = context.by_seed([(name, rate) for name in VARIANTS for rate in rates], [first], train)
    best = {
        name: best_rate(
            {rate: tried[name, rate] for rate in rates},
            "train_loss" if key == "dropout" else "val_loss",
        )
        for name, (key, _) in VARIANTS.items()
    }
    trained = [(name, rate) for name, rate in best.items() if tried.get((name, rate))]
    more = context.by_seed(trained, others, train)

    outcomes: dict[str, Outcomes] = {}
    for name, rate in best.items():
        by_seed = tried.get((name, rate), {}) | more.get((name, rate), {})
        values = {seed: context.attempt(evaluate, run) for seed, run in by_seed.items()}
        outcomes[name] = {seed: value for seed, value in values.items() if value is not None}
    return report(data, crops, best, outcomes, _parameters(data, plain["model"]))


def _data(context: Context) -> Data:
    if context.options.scale == "small":
        return context.data(IMAGES, None, prefer="cifar")
    return context.photographs()


def _settings(context: Context) -> dict[str, Any]:
    """`train` settings of the whole network."""
    if context.options.scale != "small":
        return context.network()
    epochs = context.epochs(small=EPOCHS)
    return {"model": "alexnet-32", "epochs": epochs, "lr": RATES[0], "allow_upscaling": True}


def _parameters(data: Data, model: str) -> dict[str, int]:
    """The number of parameters of each variant's network, which has to be known to be fair."""
    classes = len(data.splits.train.class_ids)
    networks = {
        key: models.get(model, classes, **options) for key, (_, options) in VARIANTS.items()
    }
    return {key: model.network.parameter_count for key, model in networks.items()}


def best_rate(runs: Mapping[Rate, Mapping[int, Any]], loss: str = "val_loss") -> Rate:
    """The learning rate of {rate: {seed: run}} with the lowest mean `loss` after the last epoch.

    Only the rates at which the fewest seeds diverged are compared. None without any run.
    """
    most = max(len(by_seed) for by_seed in runs.values())
    losses = {
        rate: fmean(run.history[-1][loss] for run in by_seed.values())
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
    whole_top1, whole_top5, whole_gap = _by_seed(outcomes[WHOLE])
    for name, (key, _) in VARIANTS.items():
        top1, top5, gap = _by_seed(outcomes[name])
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
            *(measured(_of(outcomes[name], "training_error")), measured(gap)),
        ))  # fmt: skip
        if known is not None:
            claims += _claims(name, change, paired(gap, whole_gap), known)
        if known is not None and change is not None:
            differences[name] = (change, known)
            findings.append(_finding(name, change, known))
            if lacking := len(outcomes[WHOLE]) - len(change.values):
                findings[-1] += f" Without {lacking} of {len(outcomes[WHOLE])} seeds"
                findings[-1] += ", which diverged or were not run."
            if key == "dropout":
                findings[-1] += _overfitting(measured(whole_gap), measured(gap))
                findings[-1] += _fit(outcomes[name])
            findings[-1] += _cost(change, known, outcomes[name], outcomes[WHOLE])
    columns = (
        *("variant", "parameters", "learning rate", "top-1 error, %", "top-5 error, %"),
        *("top-1 difference", "published", "top-5 difference", "published"),
        *("training error, %", "validation minus training loss"),
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
    gaps = {seed: outcome.val_loss - outcome.train_loss for seed, outcome in outcomes.items()}
    return _of(outcomes, "top1"), _of(outcomes, "top5"), gaps


def _of(outcomes: Outcomes, name: str) -> dict[int, float]:
    """{seed: value} of a field."""
    return {seed: getattr(outcome, name) for seed, outcome in outcomes.items()}


def _claims(
    name: str, change: Difference | None, gap: Difference | None, known: Published
) -> list[Claim]:
    """The part that a variant leaves out lowers the error; dropout also prevents overfitting."""
    subject = name[0].upper() + name[1:]
    claims = [Claim(f"{subject}: the error is higher", _published(known), change)]
    if known.top1 is None:
        statement = f"{subject}: validation minus training loss is higher"
        claims.append(Claim(statement, "substantially", gap))
    return claims


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


def _fit(without: Outcomes) -> str:
    """Whether the network can fit the training images: what the comparisons need."""
    training, validation = (fmean(_of(without, of).values()) for of in ("training_error", "top1"))
    return (
        f" Without dropout the error is {training:.1f}% on training images and {validation:.1f}% "
        "on the others."
    )


def _cost(change: Difference, known: Published, outcomes: Outcomes, whole: Outcomes) -> str:
    """If inconclusive: what an interval as narrow as the published difference would cost."""
    effect = abs(known.top1 or 0.0)
    if not effect or change.interval is None or change.sign:
        return ""
    low, high = change.interval
    if high - low <= 2 * effect:
        return ""
    seeds = change.seeds_for(effect)
    if seeds is None:
        return f" No number of seeds up to 10,000 would bring the interval to ± {effect:.1f}."
    each = sum(fmean(_of(some, "seconds").values()) for some in (outcomes, whole))
    return (
        f" About {seeds:,} seeds would bring the interval to ± {effect:.1f}: "
        f"{duration(seeds * each)} of training here."
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
