"""Large batches: SGD with a linearly scaled learning rate, and LARS.

    minialex reproduce large-batch --data imagenette

The same number of epochs in batches of 128 and more: large batches make few updates, for which SGD
needs a high learning rate. LARS (You, Gitman and Ginsburg, 2017) gives each array of weights a rate
in proportion to its norm. As in the published runs, the rate rises with the square of the steps and
then falls with the square of what is left; here it rises for 5% of the epochs, in a published run
of LARS for 3.8%. SGD's learning rate grows with the batch, that of LARS with its square root. At
the small scale the first seed tries two learning rates, and the one with the lower validation loss
counts, which the other seeds use. All batches are computed in micro-batches of one size, in the
same memory.

The small scale has half of `alexnet-64` on crops of 32 x 32, of which one core computes enough for
some hundred updates of the largest batch.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from minialex import models
from minialex.experiments import (
    PUBLISHED,
    Claim,
    Context,
    Difference,
    Figure,
    Run,
    Section,
    Table,
    measured,
    paired,
)
from minialex.experiments.data import Data
from minialex.experiments.paper.ablations import best_rate
from minialex.experiments.report.figures import curves
from minialex.experiments.report.section import Value
from minialex.experiments.training import Diverged
from minialex.models import layer_list

ORDER = 9
TITLE = "Large batches: SGD and LARS"
SGD, LARS = "SGD", "LARS"
WARM_UP = 0.05  # of the epochs
SMALL = "half of alexnet-64 on 32 x 32"  # the network of the small scale
LARS_RATE, LARS_BATCH = 10.0, 8192  # of a published run

Case = tuple[str, int]  # optimiser, batch size


@dataclass(frozen=True)
class Outcome:
    """One run, evaluated: errors in percent, and its recipe in a line."""

    top1: float
    top5: float
    recipe_line: str


Outcomes = Mapping[int, Outcome]  # by seed


def run(context: Context) -> Section:
    """Train with each optimiser and batch size; the first seed chooses the learning rate."""
    batches: tuple[int, ...] = context.pick(
        tiny=(8, 32), small=(128, 1024, 4096), full=(128, 1024, 8192)
    )
    data = context.data(
        context.pick(tiny=48, small=8192, full=None),
        context.pick(tiny=24, small=2000, full=None),
    )
    factors: tuple[float, ...] = context.pick(tiny=(1.0,), small=(0.5, 1.0), full=(1.0,))
    plain = _settings(context)
    cases = [(name, batch) for batch in batches for name in (SGD, LARS)]
    diverged: dict[Case, int] = dict.fromkeys(cases, 0)  # runs

    def train(case: tuple[str, int, float], seed: int) -> Run:
        name, batch, factor = case
        rate = factor * _rate(name, batch, plain["lr"])
        settings = {**plain, "optimizer": name.lower(), "batch_size": batch, "lr": rate}
        title = f"{name}, batch {batch}, rate {rate:g}"
        try:
            return context.train(title, data, seed=seed, **settings)
        except Diverged:
            diverged[name, batch] += 1
            raise

    every = [(*case, factor) for case in cases for factor in factors]
    first, *others = context.seeds()
    tried = context.by_seed(every, [first], train)
    best = {case: best_rate({factor: tried[*case, factor] for factor in factors}) for case in cases}
    lost = [case for case in cases if diverged[case] == len(factors)]
    chosen = [(*case, factor) for case, factor in best.items() if factor is not None]
    more = context.by_seed(chosen, others, train)

    def evaluate(run: Run) -> Outcome:
        line = run.recipe_line()
        if plain["model"] == layer_list.NAME:
            line = line.replace(layer_list.NAME, SMALL, 1)
        return Outcome(*run.errors(), line)

    outcomes: dict[Case, Outcomes] = {}
    rates: dict[Case, float | None] = {}
    for case, factor in best.items():
        by_seed = {} if factor is None else tried[*case, factor] | more[*case, factor]
        values = {seed: context.attempt(evaluate, run) for seed, run in by_seed.items()}
        outcomes[case] = {seed: value for seed, value in values.items() if value is not None}
        rates[case] = None if factor is None else factor * _rate(*case, plain["lr"])
    return report(data, plain["epochs"], rates, outcomes, lost)


def _settings(context: Context) -> dict[str, Any]:
    """`train` settings of all runs; `lr` is that of SGD in batches of 128."""
    epochs = context.epochs(tiny=2, small=50, full=100)
    common = {
        "epochs": epochs,
        "schedule": "poly",
        "warmup": WARM_UP * epochs,
        "warmup_shape": "quadratic",
        "micro_batch": context.pick(tiny=8, small=128, full=128),
    }
    if context.options.scale == "full":
        return {"model": "bvlc-alexnet", "lr": 0.0025, **common}  # 0.02 in batches of 1,024
    half = models.get("alexnet-64", half=True).network
    small = layer_list.options_of(replace(half, input_shape=(32, 32, 3)))
    network = {"model": layer_list.NAME, "model_options": small}
    return {**network, "lr": 0.012, "allow_upscaling": True, **common}


def _rate(name: str, batch: int, base: float) -> float:
    if name == LARS:
        return LARS_RATE * (batch / LARS_BATCH) ** 0.5
    return base * batch / 128


def report(
    data: Data,
    epochs: int,
    rates: Mapping[Case, float | None],
    outcomes: Mapping[Case, Outcomes],
    lost: Collection[Case] = (),
) -> Section:
    """A row for each optimiser and batch size, and a curve for each optimiser.

    `lost` are the cases of which every run diverged; others without an outcome are not computed.
    """
    errors = {
        case: {seed: outcome.top1 for seed, outcome in of_case.items()}
        for case, of_case in outcomes.items()
    }
    smallest, largest = min(batch for _, batch in outcomes), max(batch for _, batch in outcomes)
    rows: list[tuple[Value, ...]] = []
    for (name, batch), of_case in outcomes.items():
        rate = rates[name, batch]
        rows.append((
            *(name, f"{batch:,}", f"{epochs * -(-len(data.splits.train) // batch):,}"),
            None if rate is None else f"{rate:.3g}",
            measured(errors[name, batch]),
            measured({seed: outcome.top5 for seed, outcome in of_case.items()}),
            paired(errors[name, batch], errors[name, smallest]) if batch != smallest else None,
            paired(errors[SGD, batch], errors[LARS, batch]) if name == SGD else None,
        ))  # fmt: skip
    known = PUBLISHED["large batch"]
    caption = (
        "Errors on one crop, and differences in percentage points, with the same seed and as many "
        f"epochs. Published, for comparison: {known.what}: {known.top1} and {known.top5} on "
        f"{known.data} ({known.source})."
    )
    columns = (
        *("optimiser", "batch", "updates", "learning rate", "top-1 error, %", "top-5 error, %"),
        *(f"top-1 difference from batch {smallest}", "SGD minus LARS"),
    )
    findings = [
        _cost(name, smallest, largest, errors, (name, largest) in lost) for name in (SGD, LARS)
    ]
    difference = paired(errors[SGD, largest], errors[LARS, largest])
    findings.append(_between(largest, difference))
    statement = f"In batches of {largest:,}, LARS is better than SGD"
    return Section(
        setting=[data.line, *_recipes(outcomes)],
        findings=findings,
        tables=[Table("large-batch", caption, columns, rows, digits=2)],
        figures=[
            Figure(
                "batches",
                "Top-1 error after the same number of epochs: mean over seeds, and each seed.",
                "A curve for each optimiser, the error against the batch size.",
                lambda figure: curves(figure, errors, (SGD, LARS), "batch size", base=2),
            )
        ],
        claims=[Claim(statement, None, difference)],
    )


def _recipes(outcomes: Mapping[Case, Outcomes]) -> list[str]:
    """The recipe of each optimiser's first outcome, in a line."""
    lines: dict[str, str] = {}
    for (name, _), of_case in outcomes.items():
        for one in of_case.values():
            lines.setdefault(name, f"{name}: {one.recipe_line}")
    return list(lines.values())


def _cost(
    name: str, smallest: int, largest: int, errors: Mapping[Case, dict[int, float]], lost: bool
) -> str:
    """What the largest batch costs an optimiser; with `lost`, all its runs diverged."""
    if lost:
        return f"{name}: no run in batches of {largest:,} ended; its loss was not finite."
    if not errors[name, largest]:
        return f"{name}: batches of {largest:,} have not been run."
    change = paired(errors[name, largest], errors[name, smallest])
    if change is None:
        return f"{name}: no seed ended in batches of both {smallest:,} and {largest:,}."
    return (
        f"{name}: from batches of {smallest:,} to {largest:,}, the top-1 error changes by "
        f"{change.text()} points: {change.verdict('it rises', 'it falls')}."
    )


def _between(largest: int, change: Difference | None) -> str:
    if change is None:
        return f"In batches of {largest:,}, SGD and LARS cannot be compared."
    better = change.verdict("LARS is better", "SGD is better")
    return (
        f"In batches of {largest:,}, SGD's top-1 error is {change.text()} points from LARS's: "
        f"{better}."
    )
