"""VGG-16 and VGG-19: parameter counts, and which initialisations let deep networks train.

    minialex reproduce vgg --data imagenette

Configuration D is trained from weights with one standard deviation in all layers, from He
initialisation, and from a trained configuration A as its authors did (Simonyan & Zisserman, 2015,
section 3.1). At the small scale it has an eighth of the channels and 64 x 64 inputs, and is also
trained from A with a lower learning rate.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from minialex import models
from minialex.experiments import (
    PUBLISHED,
    Context,
    Diverged,
    Figure,
    Run,
    Section,
    Table,
    measured,
)
from minialex.experiments.data import Data
from minialex.experiments.report.figures import COLOURS
from minialex.experiments.report.section import Value

ORDER = 8
TITLE = "VGG: deeper networks"


class Start(NamedTuple):
    """An initialisation: its name in the cache of results, the configuration, model options."""

    cached_as: str
    configuration: str
    options: dict[str, Any]


SHALLOW, HE = "A, He initialisation", "D, He initialisation"
FROM_A, SLOWER = "D, from the trained A", "D, from the trained A, learning rate 0.003"
STARTS = {
    "D, std 0.1 as in their paper": Start("D, deviation 0.1 as in their text", "D", {"init": 0.1}),
    "D, std 0.01": Start("D, deviation 0.01", "D", {"init": 0.01}),
    HE: Start("D, scaled by each layer's inputs", "D", {}),
    SHALLOW: Start("A, 11 layers", "A", {}),
    FROM_A: Start("D, started from the trained A", "D", {}),
    # lower, so that what A has learned is not lost to the new layers in between
    SLOWER: Start("D, started from the trained A, rate 0.003", "D", {}),
}
MARGIN = 0.1  # nats below the loss of random guessing: a network that learns is soon past it


class Outcome(NamedTuple):
    """A run's history (empty if it diverged), top-1 and top-5 error, and the recipe in a line."""

    history: list[dict[str, Any]]
    errors: tuple[float, float] | None
    recipe_line: str | None


def run(context: Context) -> Section:
    """Count the parameters; train from each initialisation with every seed."""
    data = context.photographs()
    full = context.options.scale == "full"
    names = {"A": "vgg-11", "D": "vgg-16"} if full else {"A": "vgg-11-64", "D": "vgg-16-64"}
    small: dict[str, Any] = {}
    settings: dict[str, Any] = {"epochs": context.epochs(tiny=1, small=20, full=74), "lr": 0.01}
    if not full:
        small = context.pick(tiny={"width": 2, "hidden": 16}, small={"width": 8, "hidden": 256})
        settings |= {"batch_size": context.pick(tiny=16, small=32), "allow_upscaling": True}

    def train(name: str, seed: int) -> Run:
        start = STARTS[name]
        rate = {"lr": 0.003} if name == SLOWER else {}
        return context.train(
            f"VGG {start.cached_as}",
            data,
            seed=seed,
            shallow=train(SHALLOW, seed) if name in (FROM_A, SLOWER) else None,
            model=names[start.configuration],
            model_options={**small, **start.options},
            **{**settings, **rate},
        )

    def one(name: str, seed: int) -> Outcome:
        try:
            run = train(name, seed)
        except Diverged:
            return Outcome([], None, None)
        return Outcome(run.history, run.errors(), run.recipe_line())

    starts = [name for name in STARTS if name != SLOWER or not full]
    outcomes = context.by_seed(starts, context.seeds(tiny=1, small=2, full=1), one)
    return report(data, settings["epochs"], outcomes)


def report(data: Data, epochs: int, outcomes: Mapping[str, Mapping[int, Outcome]]) -> Section:
    """The parameter counts, the outcome of each initialisation, and the losses by epoch."""
    chance = math.log(len(data.splits.train.class_ids))
    rows: list[tuple[Value, ...]] = []
    findings = []
    for name, by_seed in outcomes.items():
        begun = [outcome for outcome in by_seed.values() if outcome.history]
        finished = [outcome for outcome in begun if len(outcome.history) == epochs]
        errors = [outcome.errors for outcome in finished if outcome.errors]
        learned = [o for o in finished if o.history[-1]["train_loss"] < chance - MARGIN]
        rows.append((
            name,
            measured([outcome.history[0]["train_loss"] for outcome in begun]),
            measured([outcome.history[-1]["train_loss"] for outcome in finished]),
            f"{len(learned)} of {len(by_seed)}" if by_seed else None,
            measured([top1 for top1, _ in errors]),
            measured([top5 for _, top5 in errors]),
        ))  # fmt: skip
        if by_seed:
            findings.append(finding(name, len(by_seed), len(finished), len(learned)))
    columns = (
        *("initialisation", "training loss, first epoch", "last epoch", "learned"),
        *("top-1 error, %", "top-5 error, %"),
    )
    caption = (
        f"Training loss with dropout, and errors on one crop. Learned: a loss {MARGIN} below that "
        f"of random guessing, {chance:.2f}."
    )
    recipes = [outcome.recipe_line for outcome in outcomes[HE].values() if outcome.recipe_line]
    return Section(
        [data.line, *recipes[:1]],
        findings,
        [parameter_counts(), Table("starts", caption, columns, rows, digits=2)],
        [
            Figure(
                "losses",
                "Training loss by epoch, a line for each seed; the dotted line is the loss of "
                "random guessing.",
                "Training losses from each initialisation; some stay at that of random guessing.",
                lambda figure: draw(figure, outcomes, chance),
            )
        ],
    )


def parameter_counts() -> Table:
    """Parameters and multiply-adds of the full networks, counted layer by layer."""
    rows: list[tuple[Value, ...]] = []
    for name in ("vgg-16", "vgg-19"):
        network, published = models.get(name, 1000).network, PUBLISHED[name]
        assert published.value is not None
        rows.append((
            *(published.what, network.parameter_count, int(published.value)),
            *(sum(row.connections for row in network.rows()), published.top1, published.top5),
        ))  # fmt: skip
    columns = (
        *("network", "parameters", "published", "multiply-adds per image"),
        *("published top-1 error, %", "top-5"),
    )
    caption = f"Counted from the networks. {PUBLISHED['vgg-16'].source}."
    return Table("sizes", caption, columns, rows)


def finding(name: str, runs: int, finished: int, learned: int) -> str:
    """The result of one initialisation, in a sentence."""
    if finished == 0:
        return f"{name}: all {runs} runs diverged." if runs > 1 else f"{name}: the run diverged."
    diverged = f"; {runs - finished} diverged" if finished < runs else ""
    if learned == 0:
        stayed = f"{finished} of {runs} runs"
        return f"{name}: stayed at the loss of random guessing in {stayed}{diverged}."
    return f"{name}: learned in {learned} of {runs} runs{diverged}."


def draw(figure: Any, outcomes: Mapping[str, Mapping[int, Outcome]], chance: float) -> None:
    """One colour per initialisation, one line per seed."""
    axes = figure.subplots()
    for (name, by_seed), colour in zip(outcomes.items(), COLOURS, strict=False):
        label: str | None = name
        for history, _, _ in by_seed.values():
            if history:
                epochs, losses = ([row[key] for row in history] for key in ("epoch", "train_loss"))
                axes.plot(epochs, losses, ".-", color=colour, label=label, markersize=3)
                label = None
    axes.axhline(chance, linestyle=":", color="#888888")
    axes.set(xlabel="epoch", ylabel="training loss")
    if axes.lines[1:]:
        axes.legend()
