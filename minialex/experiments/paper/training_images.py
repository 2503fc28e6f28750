"""The number of training images: where does the network overtake the methods of table 1?

    minialex reproduce training-images --data imagenette

Hand-crafted features need few examples, a network learns its own and needs many. SIFT with Fisher
vectors, sparse coding and the network learn from the same images, in growing numbers, and are
evaluated on the same validation images. All have the time they need: at the small scale the network
is trained as few images need it (batch normalisation, Adam, stronger augmentation), with more
updates the more images there are, and its crops are nearly as large as the images of SIFT.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from minialex.experiments import (
    Claim,
    Context,
    Difference,
    Figure,
    Section,
    Table,
    measured,
    paired,
)
from minialex.experiments.paper.baselines import COMPARED, FISHER, SPARSE, baseline
from minialex.experiments.published import change
from minialex.experiments.report.figures import curves
from minialex.experiments.report.section import Value

ORDER = 10
TITLE = "Training images: where the network overtakes SIFT and sparse coding"
NETWORK = "CNN"
NAMES = (FISHER, SPARSE, NETWORK)

# at the small scale: for four times as many images, twice as many updates
EPOCHS, OF = 150, 500

Errors = Mapping[tuple[str, int], Mapping[int, float]]  # {(method, images): {seed: top-1, %}}


def run(context: Context) -> Section:
    """Train each method on each number of images, with every seed."""
    counts: tuple[int, ...] = context.pick(
        tiny=(24, 48), small=(500, 1000, 2500, 0), full=(10_000, 100_000, 0)
    )
    val = context.pick(tiny=24, small=2000, full=None)
    sets = [context.data(count or None, val) for count in counts]
    sets = list({len(data.splits.train): data for data in sets}.values())  # a small set has fewer
    by_count = {len(data.splits.train): data for data in sets}
    options = _options(context)

    def one(case: tuple[str, int], seed: int) -> float:
        name, count = case
        data = by_count[count]
        if name == NETWORK:
            settings = _network(context, count)
            trained = context.train(f"{name}, {count:,} images", data, seed=seed, **settings)
            return trained.errors(keep_predictions=False)[0]
        return baseline(context, name, data, seed, options[name])[0]

    cases = [(name, count) for count in by_count for name in NAMES]
    errors = context.by_seed(cases, context.seeds(), one)
    lines = [sets[-1].line, _described(context, list(by_count))]
    return report(lines, errors)


def _options(context: Context) -> dict[str, dict[str, Any]]:
    """Settings of the baselines."""
    return {
        FISHER: context.pick(
            tiny={"size": 64, "step": 16, "gaussians": 4, "components": 16, "sample": 1000},
            small={"step": 6},
            full={"step": 4},
        ),
        SPARSE: context.pick(
            tiny={"size": 32, "step": 4, "atoms": 16, "sample": 500}, small={}, full={"size": 96}
        ),
    }


def _network(context: Context, count: int) -> dict[str, Any]:
    """`train` settings of the network for so many images."""
    if context.options.scale == "full":
        return context.network()
    epochs = context.epochs(tiny=1, small=round(EPOCHS * (OF / count) ** 0.5))
    return {
        "model": "alexnet-96-bn",
        "batch_size": context.pick(tiny=16, small=64),
        "epochs": epochs,
        "optimizer": "adam",
        "lr": 0.001,
        "schedule": "cosine",
        "warmup": 0.05 * epochs,
        "crop_scale": 0.35,
        "aspect": 1.33,
        "brightness": 0.3,
        "contrast": 0.3,
        "saturation": 0.3,
        "label_smoothing": 0.1,
        "allow_upscaling": True,
    }


def _described(context: Context, counts: Sequence[int]) -> str:
    """The network's training in a line."""
    settings = _network(context, counts[-1])
    epochs = [_network(context, count)["epochs"] for count in counts]
    optimizer = settings.get("optimizer", "sgd")
    return f"{settings['model']} by {optimizer}, {', '.join(map(str, epochs))} epochs"


def report(lines: Sequence[str], errors: Errors) -> Section:
    """A row for each number of images, and a curve for each method."""
    counts = sorted({count for _, count in errors})
    rows: list[tuple[Value, ...]] = []
    for count in counts:
        found = [errors.get((name, count), {}) for name in NAMES]
        against = [paired(one, found[-1]) for one in found[:-1]]
        rows.append((f"{count:,}", *map(measured, found), *against))
    columns = (
        *("training images", *(f"{name}, top-1 error, %" for name in NAMES)),
        *(f"{name} minus CNN" for name in NAMES[:-1]),
    )
    caption = (
        "Errors on the same validation images, one crop, and differences in percentage points, "
        "with the same seed."
    )
    findings = [_crossing(name, counts, errors) for name in NAMES[:-1]]
    figure = Figure(
        "training-images",
        "Top-1 error against the number of training images: mean over seeds, and each seed.",
        "A curve for each method, the error falling with the number of training images.",
        lambda canvas: curves(canvas, errors, NAMES, "training images"),
    )
    tables = [Table("training-images", caption, columns, rows)]
    return Section(lines, findings, tables, [figure], _claims(counts, errors))


def _claims(counts: Sequence[int], errors: Errors) -> list[Claim]:
    """With the most images, the network is better: table 1."""
    return [
        Claim(
            f"With {count:,} training images, the network is better than {name}",
            change(COMPARED[name], "table1 cnn"),
            paired(errors.get((NETWORK, count), {}), errors.get((name, count), {})),
            -1,
        )
        for count in counts[-1:]
        for name in NAMES[:-1]
    ]


def _crossing(name: str, counts: Sequence[int], errors: Errors) -> str:
    """From which number of images on the network is better than this method."""
    differences: dict[int, Difference] = {}
    for count in counts:
        found = paired(errors.get((name, count), {}), errors.get((NETWORK, count), {}))
        if found is not None:
            differences[count] = found
    if not differences:
        return f"{name}: nothing to compare."
    texts = ", ".join(f"{count:,}: {one.text()}" for count, one in differences.items())
    return f"{name} minus CNN, points of top-1 error by training images: {texts}. " + _verdict(
        {count: one.sign for count, one in differences.items()}
    )


def _verdict(signs: Mapping[int, int | None]) -> str:
    """In words; a sign is 1 where the network's error is lower, 0 where the interval includes 0."""
    if None in signs.values():
        return "One seed, so no interval."
    counts = sorted(signs)
    wins = [count for count in counts if signs[count] == 1]
    lasting = [c for c in wins if all(signs[later] == 1 for later in counts if later > c)]
    if not lasting:
        return "The network does not win with any of these numbers of images."
    if lasting[0] == counts[0]:
        return "The network wins with all of them."
    return f"The network wins from {lasting[0]:,} images on."
