"""Visualisations: first-layer kernels by tower, top labels, nearest images (figs. 3, 4).

    minialex reproduce pictures --data imagenette

Besides the pictures, it measures two things: whether the towers specialise, one in colour and one
in none, more than the halves of a network that is not split; and how many of the nearest images by
the last hidden layer are of the query's class.

At the small scale the network is "alexnet-128", trained on all images: the kernels of a few epochs
on some thousand images are hardly more than the noise that they started from.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minialex import plots
from minialex.data.dataset import Dataset
from minialex.data.loading.loader import Loader
from minialex.experiments import Claim, Context, Picture, Run, Section, Table, measured, paired
from minialex.experiments.data import Data, balanced_subset
from minialex.experiments.published import CHALLENGE
from minialex.experiments.report.section import Value
from minialex.inference import filters, neighbors
from minialex.inference.classifier import Classifier

ORDER = 6
TITLE = "What the network sees"
WHOLE, SEPARATE, SINGLE = "two towers", "towers that never communicate", "one tower"

# {network: (the name that its run is cached under, as by ablations.py, model options)}
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    WHOLE: ("the whole network", {}),
    SEPARATE: ("towers that never communicate", {"communication": False}),
    SINGLE: ("one tower", {"towers": 1}),  # whose halves are compared: the control
}
EPOCHS, RATE = 24, 0.003  # at the small scale
NEAREST = 6
SHOWN = 5  # queries in the picture
KERNELS = "kernels.png"


@dataclass(frozen=True)
class Coloured:
    """A run, what its kernels' colours are, in percent, and the picture of its kernels.

    less, more   median colourfulness of the less and of the more colourful tower
    separation   how often a kernel of one is more colourful than one of the other, at least 50
    by_chance    what it is on average where the towers do not differ
    """

    run: Run
    less: float
    more: float
    separation: float
    by_chance: float
    kernels: Path


def run(context: Context) -> Section:
    """Measure the kernels of every network, and show the predictions of one."""
    data = _data(context)

    def train(name: str, seed: int) -> Run:
        title, options = NETWORKS[name]
        settings = _settings(context)
        if options:
            settings["model_options"] = options
        return context.train(title, data, seed=seed, **settings)

    def colours(name: str, seed: int) -> Coloured:
        run = train(name, seed)

        def compute(folder: Path) -> tuple[float, ...]:
            classifier = run.numpy_classifier()
            plots.kernels(classifier, folder / KERNELS)  # while the weights are there
            result = filters.colours(classifier, towers=2)
            less, more = sorted(100 * tower.median for tower in result.towers)
            assert result.separation is not None
            apart = max(result.separation, 1 - result.separation)
            by_chance = filters.separation_by_chance(result.towers[0].kernels)
            return less, more, 100 * apart, 100 * by_chance

        title, key = f"kernels of {name}, seed {seed}", {"colours by halves": run.settings}
        less, more, apart, by_chance = context.cached(title, key, compute)
        kernels = context.entry(title, key).folder / KERNELS
        return Coloured(run, less, more, apart, by_chance, kernels)

    searched = balanced_subset(data.splits.train, context.pick(tiny=24, small=1500, full=20_000))
    queries = balanced_subset(data.splits.val, context.pick(tiny=12, small=60, full=200))

    def search(run: Run) -> tuple[Run, dict[str, Any]] | None:
        def compute(_folder: Path) -> dict[str, Any]:
            return nearest(run.classifier(), searched, queries)

        name = f"nearest images, {WHOLE}, seed {run.settings['train']['seed']}"
        key = {"near": len(searched), "queries": len(queries), "of": run.settings}
        if not run.has_weights and context.entry(name, key).load() is None:
            return None  # only the results of training were kept
        return run, context.cached(name, key, compute)

    found: list[tuple[Run, dict[str, Any]]] = []

    def measure(name: str, seed: int) -> Coloured:
        coloured = colours(name, seed)
        if name == WHOLE and not found:  # while its weights are there
            nearby = context.attempt(search, coloured.run)
            found.extend([nearby] if nearby else [])
        return coloured

    coloured = context.by_seed(NETWORKS, context.seeds(tiny=1, small=5, full=1), measure)
    return report(data, coloured, next(iter(found), None), searched, queries)


def _data(context: Context) -> Data:
    small = context.options.scale == "small"
    return context.data(None, None) if small else context.photographs()


def _settings(context: Context) -> dict[str, Any]:
    """`train` settings of the network with two towers."""
    if context.options.scale != "small":
        return context.network()
    settings = {"model": "alexnet-128", "batch_size": 32, "lr": RATE, "allow_upscaling": True}
    return {**settings, "epochs": context.epochs(small=EPOCHS)}


def nearest(classifier: Classifier, searched: Dataset, queries: Dataset) -> dict[str, Any]:
    """The images of `searched` nearest to the first queries, and how many share the query's class.

    -> {"features" | "pixels": {"same": percent over all queries, "queries": indices, "nearest":
    indices, a row for each query}}
    """
    size = classifier.preprocessing.recipe.image_size
    candidates, images = read(searched, size)
    asked, query_images = read(queries, size)
    result: dict[str, Any] = {}
    for by in ("features", "pixels"):
        distances = neighbors.distances(
            neighbors.vectors(classifier, query_images, by),
            neighbors.vectors(classifier, images, by),
        )
        order = np.argsort(distances, axis=1, kind="stable")[:, :NEAREST]
        same = searched.labels[candidates][order] == queries.labels[asked][:, None]
        shown = np.linspace(0, len(asked) - 1, min(SHOWN, len(asked))).astype(int)
        result[by] = {
            "same": 100 * float(same.mean()),
            "queries": asked[shown].tolist(),
            "nearest": candidates[order[shown]].tolist(),
        }
    return result


def read(dataset: Dataset, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices (N,) and resized images (N, S, S, 3) of all images that can be read."""
    batches = list(Loader(dataset, size, cache_bytes=0).batches(np.arange(len(dataset)), 128))
    return (
        np.concatenate([batch.indices for batch in batches]),
        np.concatenate([batch.images for batch in batches]),
    )


def report(
    data: Data,
    coloured: Mapping[str, Mapping[int, Coloured]],
    search: tuple[Run, dict[str, Any]] | None,
    searched: Dataset,
    queries: Dataset,
) -> Section:
    """The colours by tower, the pictures, and the findings from both."""
    rows: list[tuple[Value, ...]] = []
    findings: list[str] = []
    claims: list[Claim] = []
    pictures: list[Picture] = []
    for name, by_seed in coloured.items():
        values = [(one.less, one.more, one.separation) for one in by_seed.values()]
        by_chance = next((one.by_chance for one in by_seed.values()), None)
        rows.append(
            (name, *(measured([value[i] for value in values]) for i in range(3)), by_chance)
        )
    control = _separation(coloured[SINGLE])
    for name in (WHOLE, SEPARATE):
        change = paired(_separation(coloured[name]), control)
        statement = f"Colour separates the kernels of {name} more than the halves of {SINGLE}"
        claims.append(Claim(statement, None, change))
        if change is not None:
            findings.append(
                f"Specialisation in colour ({name}, compared with the halves of {SINGLE}): "
                f"{change.text()} points of separation: {change.verdict()}."
            )
    for name, by_seed in coloured.items():
        for seed, one in list(by_seed.items())[: None if name == WHOLE else 1]:
            pictures.append(kernels_of(one, name, seed))
    if search is not None:
        run, result = search
        same = {by: result[by]["same"] for by in ("features", "pixels")}
        chance = 100 / len(data.splits.train.class_ids)
        findings.append(
            f"Of the {NEAREST} nearest images, {same['features']:.0f}% by the last hidden layer "
            f"and {same['pixels']:.0f}% by pixels are of the query's class (chance: {chance:.0f} "
            f"%; {len(queries):,} queries among {len(searched):,} training images)."
        )
        if run.has_weights:  # not where only the results were kept
            pictures.append(labels_of(run, data))
        pictures += [nearest_of(result[by], by, searched, queries) for by in ("features", "pixels")]
    pictures.append(
        Picture(
            "timeline",
            "Top-5 errors on the challenge's test images, as published: the paper's tables 1 and "
            "2, and VGG's text.",
            "Bars from 28.2% in 2010 down to 7.3% in 2014, networks in another colour.",
            lambda path: plots.timeline(path, CHALLENGE),
        )
    )
    caption = (
        "Colourfulness: share of a kernel's energy off the grey axis (random noise: 67%). The "
        "less colourful tower, or half of a single tower, comes first. Separation: how often a "
        "kernel of one is more colourful than one of the other, or less, whichever is more."
    )
    columns = (
        *("network", "median colourfulness, less colourful tower, %", "the other, %"),
        *("separation, %", "by chance, %"),
    )
    lines = dict.fromkeys(
        one.run.recipe_line() for by_seed in coloured.values() for one in list(by_seed.values())[:1]
    )
    table = Table("colours", caption, columns, rows)
    return Section([data.line, *lines], findings, [table], pictures, claims)


def _separation(by_seed: Mapping[int, Coloured]) -> dict[int, float]:
    return {seed: one.separation for seed, one in by_seed.items()}


def kernels_of(coloured: Coloured, name: str, seed: int) -> Picture:
    """The first-layer kernels."""
    return Picture(
        f"kernels-{name.replace(', ', '-').replace(' ', '-')}-{seed}",
        f"First-layer kernels of {name}, seed {seed}, each scaled to its largest weight.",
        f"Small coloured squares in rows, one for each kernel of {name}.",
        lambda path: shutil.copyfile(coloured.kernels, path),
    )


def labels_of(run: Run, data: Data) -> Picture:
    """Images with the network's best labels."""
    return Picture(
        "labels",
        "Eight validation images with the network's top five labels; the correct one is green.",
        "Eight photographs, each above five bars with the labels' probabilities.",
        lambda path: plots.sample_predictions(run.numpy_classifier(), data.splits.val, path),
    )


def nearest_of(result: Mapping[str, Any], by: str, searched: Dataset, queries: Dataset) -> Picture:
    """Queries with their nearest images."""
    words = "the last hidden layer" if by == "features" else "pixels"

    def make(path: Path) -> Path:
        shown, rows, labels = [], [], []
        for query, row in zip(result["queries"], result["nearest"], strict=True):
            shown.append(queries.image(query, 128))
            rows.append([searched.image(i, 128) for i in row])
            names = [class_name(queries, query), *(class_name(searched, i) for i in row)]
            labels.append(names)
        return plots.neighbors(shown, rows, path, f"nearest by {words}", labels)

    return Picture(
        f"nearest-{by}",
        f"Validation images on the left, and the training images nearest to each by {words}.",
        f"Rows of photographs, a query and its {NEAREST} nearest images.",
        make,
    )


def class_name(dataset: Dataset, index: int) -> str:
    return dataset.class_names[dataset.labels[index]]
