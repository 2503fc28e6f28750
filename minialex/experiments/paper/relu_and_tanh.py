"""How many epochs a network takes to 25 % training error, with ReLU and with tanh (section 3.1).

    minialex reproduce relu-and-tanh --data cifar-10-batches-bin

The network is the paper's four-layer one for CIFAR-10, without regularisation of any kind: no
weight decay, no mirrored images, no colour shift. Each nonlinearity is first tried with several
learning rates, and keeps the one with which it is there soonest; a rate that takes more epochs than
the best so far is given up.
"""

import math

from minialex.experiments import (
    PUBLISHED,
    Context,
    Figure,
    Measured,
    Section,
    Table,
    alone,
    measured,
)

ORDER = 1
TITLE = "ReLU against tanh"
TARGET = 0.25
NAMES = {"relu": "ReLU", "tanh": "tanh"}


def run(context: Context) -> Section:
    """Sweep the rate with the first seed, then train with every seed at the best rate."""
    images = context.pick(tiny=96, small=2000, full=None)
    data = context.data(images, 48, prefer="cifar")
    data = data.judged_on_training(context.pick(tiny=48, small=1000, full=10_000))
    rates = context.pick(
        tiny=(0.01,),
        small=(0.01, 0.003, 0.03, 0.001, 0.0003, 0.1),
        full=(0.01, 0.003, 0.03, 0.001, 0.0003, 0.1),
    )
    epochs = context.epochs(tiny=2, small=100, full=300)
    seeds = context.seeds(tiny=1, small=3, full=3)

    def train(activation: str, rate: float, seed: int, epochs: int = epochs):
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

    best, sweep, curves = {}, [], {}
    for activation, title in NAMES.items():
        tried, allowed = {}, epochs
        for rate in rates:
            one = context.found(lambda a=activation, r=rate, e=allowed: train(a, r, 0, e))
            if one is not None:
                tried[rate] = one.history
                taken = epochs_to(one.history)
                allowed = min(allowed, math.ceil(taken or allowed))
                lowest = 100 * lowest_error(one.history)
                sweep.append((f"{title}, rate {rate:g}", taken, len(one.history), lowest))
        if tried:
            best[activation] = min(tried, key=lambda rate, of=tried: soonest(of[rate]))
            curves[activation] = {0: tried[best[activation]]}
    runs = context.by_seed(best, seeds[1:], lambda name, seed: train(name, best[name], seed))
    for activation, of in runs.items():
        curves[activation] |= {seed: one.history for seed, one in of.items()}

    return report(context, data, best, sweep, curves)


def epochs_to(history, target: float = TARGET) -> float | None:
    """Epochs to the target, between two epochs by a straight line; None if it is not reached."""
    before = (0, 1.0)
    for row in history:
        here = (row["epoch"], row["val_top1_error"])
        if here[1] <= target:
            share = (before[1] - target) / (before[1] - here[1])
            return before[0] + share * (here[0] - before[0])
        before = here
    return None


def soonest(history) -> tuple[float, float]:
    """What a rate is chosen by: the epochs to the target, then the error it got to."""
    return epochs_to(history) or float("inf"), lowest_error(history)


def lowest_error(history) -> float:
    return min((row["val_top1_error"] for row in history), default=1.0)


def report(context, data, best, sweep, curves) -> Section:
    """The ratio, the sweep, and both curves."""
    published = PUBLISHED["relu"]
    taken = {
        name: {seed: epochs_to(history) for seed, history in of.items()}
        for name, of in curves.items()
    }
    ratios = [
        tanh / relu
        for seed, relu in taken.get("relu", {}).items()
        if relu and (tanh := taken.get("tanh", {}).get(seed))
    ]
    rows = []
    for name, of in taken.items():
        reached = [value for value in of.values() if value]
        rows.append((NAMES[name], f"{best[name]:g}", f"{len(reached)} of {len(of)}",
                     measured(reached), None))  # fmt: skip
    ratio = measured(ratios)
    rows.append(("tanh in epochs of ReLU", "–", f"{len(ratios)} pairs", ratio, published.value))
    return Section(
        setting=[data.line, "cifar10, 32 x 32, RGB minus pixel mean; no weight decay, no dropout, "
                 "no mirroring, no colour shift; training error at the end of each epoch"],
        findings=[sentence(ratio, taken, published)],
        tables=[
            Table(
                "epochs",
                f"Epochs to {TARGET:.0%} training error. Published: {published.source}.",
                ("nonlinearity", "best rate", "reached it", "epochs", "published"),
                rows,
            ),
            Table(
                "rates",
                "The rates tried, in this order, with the first seed; a dash where the target was "
                "not reached in the epochs that the best rate so far took.",
                ("nonlinearity and rate", "epochs to the target", "epochs", "lowest error, %"),
                sweep,
            ),
        ],
        figures=[
            Figure(
                "curves",
                "Training error by epoch at each nonlinearity's best rate, a line a seed; the "
                "dotted line is the target.",
                "Training error falling with the epochs, for ReLU and for tanh.",
                lambda figure: draw(figure, curves),
            )
        ],
    )  # fmt: skip


def sentence(ratio: Measured | None, taken, published) -> str:
    """What came of it, by the numbers."""
    if ratio is None:
        got = [NAMES[name] for name, of in taken.items() if any(of.values())]
        return (
            f"No ratio can be given: {' and '.join(got) or 'neither'} reached {TARGET:.0%} "
            f"training error in the epochs allowed. The paper's ratio is {published.value:g}."
        )
    how = "more" if ratio.mean > 1 else "not more"
    return (
        f"tanh took {ratio.text()} times the epochs of ReLU to {TARGET:.0%} training error, so "
        f"{how}; in the paper {published.value:g} times."
    )


def draw(figure, curves) -> None:
    """The paper's figure 1: ReLU solid, tanh dashed."""
    axes = figure.subplots()
    for (name, of), colour, line in zip(
        curves.items(), ("#4477aa", "#cc6677"), ("-", "--"), strict=False
    ):
        for i, history in enumerate(of.values()):
            epochs = [0, *(row["epoch"] for row in history)]
            error = [None, *(100 * row["val_top1_error"] for row in history)]
            axes.plot(epochs[1:], error[1:], line, color=colour, label=None if i else NAMES[name])
    axes.axhline(100 * TARGET, linestyle=":", color="#888888")
    axes.set(xlabel="epoch", ylabel="training error, %", ylim=(0, None), xlim=(0, None))
    if curves:
        axes.legend()


if __name__ == "__main__":
    raise SystemExit(alone(__file__))
