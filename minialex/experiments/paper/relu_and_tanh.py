"""ReLU and tanh: epochs to 25% training error (section 3.1, figure 1).

    minialex reproduce relu-and-tanh --data cifar-10-batches-bin

The network is the paper's four-layer one for CIFAR-10, without any regularisation: no weight decay,
no mirroring, no colour augmentation. Each nonlinearity is first trained with several learning
rates, until the one that gets there in the fewest epochs has slower ones on both sides; that one is
used for all seeds. A rate that takes more epochs than the best so far is abandoned.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from minialex.experiments import (
    PUBLISHED,
    Claim,
    Context,
    Figure,
    Measured,
    Published,
    Ratio,
    Run,
    Section,
    Table,
    measured,
)
from minialex.experiments.data import Data
from minialex.experiments.report.figures import COLOURS
from minialex.experiments.report.section import Value

ORDER = 1
TITLE = "ReLU and tanh"
TARGET = 0.25
RATES = (3e-5, 1e-4, 3e-4, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
NAMES = {"relu": "ReLU", "tanh": "tanh"}

History = list[dict[str, Any]]  # a row for each epoch
Curves = dict[str, dict[int, History]]  # {nonlinearity: {seed: history}}


def run(context: Context) -> Section:
    """Sweep the learning rates with the first seed, then train with every seed at the best one."""
    images = context.pick(tiny=96, small=2000, full=None)
    data = context.data(images, 48, prefer="cifar")
    data = data.evaluated_on_training(context.pick(tiny=48, small=1000, full=10_000))
    rates = context.pick(tiny=(0.01,), small=RATES, full=RATES)
    first = context.pick(tiny=0.01, small=0.01, full=0.001)  # in full, the authors' own
    epochs = context.epochs(tiny=2, small=100, full=60)
    seeds = context.seeds(tiny=1, small=3, full=3)

    def train(activation: str, rate: float, seed: int, epochs: int = epochs) -> Run:
        return context.train(
            f"{NAMES[activation]}, rate {rate:g}",
            data,
            seed=seed,
            until=TARGET,
            model="cifar10",
            model_options={"activation": activation},
            epochs=epochs,
            batch_size=context.pick(tiny=16, small=32, full=128),
            lr=rate,
            schedule="constant",
            weight_decay=0.0,
            mirror=False,
            crops=False,
            colour_noise=0.0,
            allow_upscaling=True,
        )

    best: dict[str, float] = {}
    tried: list[tuple[Value, ...]] = []
    curves: Curves = {}
    for activation, title in NAMES.items():
        allowed = epochs

        def attempt(
            rate: float, activation: str = activation, title: str = title
        ) -> History | None:
            nonlocal allowed
            one = context.attempt(train, activation, rate, 0, allowed)
            if one is None:
                return None
            taken = epochs_to(one.history)
            allowed = min(allowed, math.ceil(taken or allowed))
            lowest = 100 * lowest_error(one.history)
            tried.append((f"{title}, {rate:g}", taken, len(one.history), lowest))
            return one.history

        histories = sweep(rates, first, attempt)
        if histories:
            best[activation] = fastest(histories)
            curves[activation] = {0: histories[best[activation]]}
    runs = context.by_seed(best, seeds[1:], lambda name, seed: train(name, best[name], seed))
    for activation, by_seed in runs.items():
        curves[activation] |= {seed: one.history for seed, one in by_seed.items()}

    return report(data, best, tried, curves, rates)


def sweep(
    rates: Sequence[float], first: float, attempt: Callable[[float], History | None]
) -> dict[float, History]:
    """{rate: history} of `first` and of rates beside it, until the best has others on both sides.

    `rates` ascend; only the first or last of them can be the best without. The higher neighbour is
    tried first: where it is better, the lower one need not be trained. Where nothing is learnt at
    all (None), lower rates are tried.
    """
    tried: dict[float, History | None] = {first: attempt(first)}
    while True:
        found = {rate: history for rate, history in tried.items() if history is not None}
        at = rates.index(fastest(found) if found else min(tried))
        beside = [rates[i] for i in (at + 1, at - 1) if 0 <= i < len(rates)]
        left = [rate for rate in beside if rate not in tried and (found or rate < rates[at])]
        if not left:
            return found
        tried[left[0]] = attempt(left[0])


def fastest(histories: Mapping[float, History]) -> float:
    """The rate that reaches the target in the fewest epochs."""
    return min(histories, key=lambda rate: speed(histories[rate]))


def epochs_to(history: History, target: float = TARGET) -> float | None:
    """Epochs to the target error, linearly interpolated; None if it is not reached."""
    before = (0, 1.0)
    for row in history:
        here = (row["epoch"], row["val_top1_error"])
        if here[1] <= target:
            fraction = (before[1] - target) / (before[1] - here[1])
            return before[0] + fraction * (here[0] - before[0])
        before = here
    return None


def speed(history: History) -> tuple[float, float]:
    """The key for choosing the learning rate: epochs to the target, then the lowest error."""
    return epochs_to(history) or float("inf"), lowest_error(history)


def lowest_error(history: History) -> float:
    return min((row["val_top1_error"] for row in history), default=1.0)


def report(
    data: Data,
    best: Mapping[str, float],
    tried: list[tuple[Value, ...]],
    curves: Curves,
    rates: Sequence[float],
) -> Section:
    """The ratio of epochs, the learning rates tried, and the learning curves."""
    published = PUBLISHED["relu"]
    taken = {
        name: {seed: epochs_to(history) for seed, history in by_seed.items()}
        for name, by_seed in curves.items()
    }
    ratios = [
        tanh / relu
        for seed, relu in taken.get("relu", {}).items()
        if relu and (tanh := taken.get("tanh", {}).get(seed))
    ]
    rows: list[tuple[Value, ...]] = []
    for name, by_seed in taken.items():
        reached = [value for value in by_seed.values() if value]
        count = f"{len(reached)} of {len(by_seed)}"
        end = " (the last tried)" if best[name] in (rates[0], rates[-1]) else ""
        rows.append((NAMES[name], f"{best[name]:g}{end}", count, measured(reached), None))
    ratio = measured(ratios)
    claim = Claim(
        f"tanh needs more epochs than ReLU to reach {TARGET:.0%} training error",
        f"{published.value:g} times",
        Ratio(tuple(ratios)) if ratios else None,
    )
    rows.append(("tanh ÷ ReLU epochs", "–", f"{len(ratios)} pairs", ratio, published.value))
    return Section(
        setting=[
            data.line,
            "cifar10, 32 x 32, minus mean image; no weight decay, dropout, mirroring or colour "
            "augmentation; training error after each epoch",
        ],
        findings=[ratio_finding(ratio, taken, published)],
        tables=[
            Table(
                "epochs",
                f"Epochs to {TARGET:.0%} training error. Published: {published.source}.",
                ("nonlinearity", "best learning rate", "reached", "epochs", "published"),
                rows,
            ),
            Table(
                "rates",
                "The learning rates in the order they were tried, with the first seed; a dash if "
                "the target was not reached in as many epochs as the best rate so far took.",
                (
                    *("nonlinearity, learning rate", "epochs to the target", "epochs"),
                    "lowest error, %",
                ),
                tried,
            ),
        ],
        figures=[
            Figure(
                "curves",
                "Training error by epoch at each nonlinearity's best learning rate, a line for "
                "each seed; the dotted line is the target.",
                "Training error falling with the epochs, for ReLU and for tanh.",
                lambda figure: draw(figure, curves),
            )
        ],
        claims=[claim],
    )


def ratio_finding(
    ratio: Measured | None,
    taken: Mapping[str, Mapping[int, float | None]],
    published: Published,
) -> str:
    """The ratio of epochs in a sentence."""
    assert published.value is not None
    if ratio is None:
        reached = [NAMES[name] for name, by_seed in taken.items() if any(by_seed.values())]
        return (
            f"Inconclusive: only {' and '.join(reached)} reached {TARGET:.0%} training error"
            if reached
            else f"Inconclusive: neither reached {TARGET:.0%} training error"
        ) + f" in the epochs allowed, so there is no ratio (paper: {published.value:g})."
    if ratio.mean <= 1:
        how = "opposite of the paper"
    elif ratio.mean < published.value / 2:
        how = "same direction as the paper, but far smaller"
    else:
        how = "agrees with the paper"
    lacking = {name: [*by_seed.values()].count(None) for name, by_seed in taken.items()}
    missed = [
        f"{NAMES[name]} in {count} of {len(taken[name])} runs"
        for name, count in lacking.items()
        if count
    ]
    left_out = f"; not reached by {' and '.join(missed)}, which are left out" if missed else ""
    return (
        f"tanh took {ratio.text()} times as many epochs as ReLU to reach {TARGET:.0%} training "
        f"error (paper: {published.value:g} times){left_out}: {how}."
    )


def draw(figure: Any, curves: Curves) -> None:
    """The paper's figure 1: ReLU solid, tanh dashed."""
    axes = figure.subplots()
    for (name, by_seed), colour, line in zip(curves.items(), COLOURS, ("-", "--"), strict=False):
        for i, history in enumerate(by_seed.values()):
            epochs = [row["epoch"] for row in history]
            error = [100 * row["val_top1_error"] for row in history]
            axes.plot(epochs, error, line, color=colour, label=None if i else NAMES[name])
    axes.axhline(100 * TARGET, linestyle=":", color="#888888")
    axes.set(xlabel="epoch", ylabel="training error, %", ylim=(0, None), xlim=(0, None))
    if curves:
        axes.legend()
