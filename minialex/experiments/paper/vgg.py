"""VGG-16 and VGG-19: their exact sizes, and how a deep network must start to be trained at all.

    minialex reproduce vgg --data imagenette

Configuration D is trained from weights that all have one deviation, from weights scaled by each
layer's inputs, and from a trained configuration A as its authors did (Simonyan & Zisserman, 2015,
section 3.1). At the small scale it has an eighth of the maps and sees 64 x 64 pixels, and starts
from A at a lower rate too.
"""

import math
from typing import Any

from minialex import models
from minialex.experiments import (
    PUBLISHED,
    Context,
    Diverged,
    Figure,
    Section,
    Table,
    alone,
    measured,
)
from minialex.experiments.report.plots import COLOURS

ORDER = 8
TITLE = "VGG: deeper networks"
SHALLOW, SCALED = "A, 11 layers", "D, scaled by each layer's inputs"
FROM_A, SLOWER = "D, started from the trained A", "D, started from the trained A, rate 0.003"
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "D, deviation 0.1 as in their text": ("D", {"init": 0.1}),
    "D, deviation 0.01": ("D", {"init": 0.01}),
    SCALED: ("D", {}),
    SHALLOW: ("A", {}),
    FROM_A: ("D", {}),
    SLOWER: ("D", {}),  # what A has learnt is not to be lost to the layers between that are new
}
LEFT_CHANCE = 0.1  # below the loss of chance, in nats: what a network that learns has passed soon


def run(context: Context) -> Section:
    """Count the parameters; train each way with every seed."""
    data = context.photographs()
    full = context.asked.scale == "full"
    names = {"A": "vgg-11", "D": "vgg-16"} if full else {"A": "vgg-11-64", "D": "vgg-16-64"}
    small = {} if full else context.pick(
        tiny={"width": 2, "hidden": 16}, small={"width": 8, "hidden": 256}, full={}
    )  # fmt: skip
    settings: dict[str, Any] = {"epochs": context.epochs(tiny=1, small=20, full=74), "lr": 0.01}
    if not full:
        settings |= {"batch_size": context.pick(tiny=16, small=32, full=256)}
        settings |= {"allow_upscaling": True}

    def train(way: str, seed: int):
        configuration, options = WAYS[way]
        rate = {"lr": 0.003} if way == SLOWER else {}
        return context.train(
            f"VGG {way}",
            data,
            seed=seed,
            shallow=train(SHALLOW, seed) if way in (FROM_A, SLOWER) else None,
            model=names[configuration],
            model_options={**small, **options},
            **{**settings, **rate},
        )

    def one(way: str, seed: int):
        try:
            run = train(way, seed)
        except Diverged:
            return [], None, None
        return run.history, run.errors(), run.recipe_line()

    ways = [way for way in WAYS if way != SLOWER or not full]
    found = context.by_seed(ways, context.seeds(tiny=1, small=2, full=1), one)
    return report(data, settings["epochs"], found)


def report(data, epochs: int, found) -> Section:
    """The sizes, what came of each way, and the losses by epoch."""
    chance = math.log(len(data.splits.train.class_ids))
    rows, findings = [], []
    for way, of in found.items():
        histories = {seed: values[0] for seed, values in of.items()}
        whole = {seed: h for seed, h in histories.items() if len(h) == epochs}
        errors = [values[1] for seed, values in of.items() if seed in whole]
        out = [h for h in whole.values() if h[-1]["train_loss"] < chance - LEFT_CHANCE]
        rows.append((
            way,
            measured([h[0]["train_loss"] for h in histories.values() if h]),
            measured([h[-1]["train_loss"] for h in whole.values()]),
            f"{len(out)} of {len(of)}" if of else None,
            measured([top1 for top1, _ in errors]),
            measured([top5 for _, top5 in errors]),
        ))  # fmt: skip
        if of:
            findings.append(sentence(way, len(of), len(whole), len(out)))
    columns = (
        *("start", "training loss, first epoch", "last epoch", "left chance"),
        *("top-1 error, %", "top-5 error, %"),
    )
    caption = (
        f"Training loss with dropout, and errors on one crop. Left chance: a loss {LEFT_CHANCE} "
        f"below that of equal guesses, {chance:.2f}."
    )
    lines = [data.line, *[v[2] for v in found[SCALED].values() if v[2]][:1]]
    return Section(
        lines,
        findings,
        [sizes(), Table("starts", caption, columns, rows, digits=2)],
        [
            Figure(
                "losses",
                "Training loss by epoch, a line a seed; the dotted line is the loss of equal "
                "guesses.",
                "Training losses of each way to start, some of which stay at the loss of chance.",
                lambda figure: draw(figure, found, chance),
            )
        ],
    )


def sizes() -> Table:
    """Parameters of the full networks, counted layer by layer."""
    rows = []
    for name in ("vgg-16", "vgg-19"):
        network, published = models.get(name, 1000).network, PUBLISHED[name]
        assert published.value is not None
        rows.append((
            *(published.what, network.parameter_count, int(published.value)),
            *(sum(row.connections for row in network.rows()), published.top1, published.top5),
        ))  # fmt: skip
    columns = (
        *("network", "parameters", "published", "multiplications an image"),
        *("published top-1 error, %", "top-5"),
    )
    return Table(
        "sizes", f"Counted from the networks. {PUBLISHED['vgg-16'].source}.", columns, rows
    )


def sentence(way: str, runs: int, whole: int, out: int) -> str:
    """What came of one way to start, by the numbers."""
    if whole == 0:
        return f"{way}: the loss was not finite in any of {runs} runs."
    broken = f"; {runs - whole} ended with a loss that was not finite" if whole < runs else ""
    if out == 0:
        return f"{way}: did not leave the loss of chance in {whole} runs{broken}."
    return f"{way}: left the loss of chance in {out} of {runs} runs{broken}."


def draw(figure, found, chance: float) -> None:
    """A colour a way, a line a seed."""
    axes = figure.subplots()
    for (way, of), colour in zip(found.items(), COLOURS, strict=False):
        label = way
        for history, _, _ in of.values():
            if history:
                epochs, losses = ([row[key] for row in history] for key in ("epoch", "train_loss"))
                axes.plot(epochs, losses, ".-", color=colour, label=label, markersize=3)
                label = None
    axes.axhline(chance, linestyle=":", color="#888888")
    axes.set(xlabel="epoch", ylabel="training loss")
    if axes.lines[1:]:
        axes.legend()


if __name__ == "__main__":
    raise SystemExit(alone(__file__))
