"""The pictures: kernels by tower, images with their best labels, nearest images, the timeline.

    minialex reproduce pictures --data imagenette

Figures 3 and 4 of the paper, and the slide's question after figure 3: does each tower come to have
colours or none, and do the halves of a network that is not split? The networks are those of
ablations.py and rivals.py, and one in a single tower.
"""

from typing import Any

import numpy as np

from minialex import plots
from minialex.data.loading.loader import Loader
from minialex.experiments import Context, Picture, Section, Table, alone, measured, paired
from minialex.experiments.data import part
from minialex.inference import filters, neighbors

ORDER = 6
TITLE = "What the network sees"
WHOLE, LONGER, SINGLE = "two towers", "two towers, trained longer", "one tower, trained longer"
SEPARATE, HALF = "towers that never communicate", "one tower, half the kernels"

# The name each run is kept under, and what is asked of the network.
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    WHOLE: ("the whole network", {}),
    SEPARATE: ("towers that never communicate", {"communication": False}),
    HALF: ("half the kernels, one tower", {"half": True}),
    LONGER: ("trained longer", {}),
    SINGLE: ("one tower, trained longer", {"towers": 1}),
}
NEAREST = 6
SHOWN = 5  # queries in the picture


def run(context: Context) -> Section:
    """Measure the kernels of every network, and show what one of them makes of images."""
    data = context.photographs()
    full = context.asked.scale == "full"
    names = [name for name in NETWORKS if not full or name not in (LONGER, SINGLE)]
    best = WHOLE if full else LONGER

    def train(name: str, seed: int):
        title, options = NETWORKS[name]
        more = context.longer() if name in (LONGER, SINGLE) else context.network()
        if name == HALF and full:
            more |= {"schedule": "2012-half", "epochs": context.epochs(full=96)}
        if options:
            more["model_options"] = options
        return context.train(title, data, seed=seed, **more)

    def colours(name: str, seed: int):
        run = train(name, seed)

        def compute(_folder):
            found = filters.colours(run.on_host(), towers=2)
            medians = sorted(100 * tower.median for tower in found.towers)
            assert found.separation is not None
            return *medians, 100 * max(found.separation, 1 - found.separation)

        key = {"colours by halves": run.cell.settings}
        return run, context.cell(f"kernels of {name}, seed {seed}", key, compute)

    found = context.by_seed(names, context.seeds(), colours)
    searched = part(data.splits.train, context.pick(tiny=24, small=1500, full=20_000))
    queries = part(data.splits.val, context.pick(tiny=12, small=60, full=200))

    def near():
        run = train(best, 0)

        def compute(_folder):
            return alike(run.classifier(), searched, queries)

        key = {"near": len(searched), "queries": len(queries), "of": run.cell.settings}
        return run, context.cell(f"nearest images, {best}, seed 0", key, compute)

    return report(data, found, context.found(near), searched, queries)


def alike(classifier, searched, queries) -> dict[str, Any]:
    """The nearest of `searched` to the first queries, and how many of all are of the same class."""
    size = classifier.preprocessing.recipe.resize
    rows = [squares(dataset, size) for dataset in (searched, queries)]
    result: dict[str, Any] = {}
    for by in ("features", "pixels"):
        (places, there), (asked, here) = (
            (indices, neighbors.vectors(classifier, images, by)) for indices, images in rows
        )
        order = np.argsort(neighbors.distances(here, there), axis=1, kind="stable")[:, :NEAREST]
        same = searched.labels[places][order] == queries.labels[asked][:, None]
        shown = np.linspace(0, len(asked) - 1, min(SHOWN, len(asked))).astype(int)
        result[by] = {
            "same": 100 * float(same.mean()),
            "queries": asked[shown].tolist(),
            "nearest": places[order[shown]].tolist(),
        }
    return result


def squares(dataset, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices (N,) and squares (N, S, S, 3) of the images that can be read."""
    batches = list(Loader(dataset, size, cache_bytes=0).batches(np.arange(len(dataset)), 128))
    return tuple(np.concatenate([getattr(b, name) for b in batches]) for name in (
        "indices", "images"
    ))  # fmt: skip


def report(data, found, near, searched, queries) -> Section:
    """The measure of colour, the pictures, and what came of both."""
    rows, findings, pictures = [], [], []
    for name, of in found.items():
        values = [value for _, value in of.values()]
        rows.append((name, *(measured([value[i] for value in values]) for i in range(3))))
    for name, control in ((LONGER, SINGLE), (SEPARATE, HALF)):
        apart = [
            {seed: value[2] for seed, (_, value) in found.get(key, {}).items()}
            for key in (name, control)
        ]
        change = paired(*apart)
        if change is not None:
            findings.append(
                f"Colour in one tower and none in the other ({name} beside the halves of {control})"
                f": {change.text()} points of separation. {change.verdict()}."
            )
    for name, of in found.items():
        pictures += [
            kernels_of(run, name, seed) for seed, (run, _) in of.items() if name in (LONGER, SINGLE)
        ] or [kernels_of(run, name, seed) for seed, (run, _) in list(of.items())[:1]]
    if near is not None:
        run, result = near
        same = {by: result[by]["same"] for by in ("features", "pixels")}
        chance = 100 / len(data.splits.train.class_ids)
        findings.append(
            f"Of the {NEAREST} images nearest by the last hidden layer {same['features']:.0f} % "
            f"are of the query's class, by pixels {same['pixels']:.0f} %, by chance {chance:.0f} % "
            f"({len(queries):,} queries among {len(searched):,} training images)."
        )
        pictures += [labels_of(run, data), *(
            near_of(result[by], by, searched, queries) for by in ("features", "pixels")
        )]  # fmt: skip
    pictures.append(
        Picture(
            "timeline",
            "The challenge's best top-5 errors as published: the paper's tables 1 and 2, and VGG's "
            "text.",
            "Bars from 28.2 % in 2010 down to 7.3 % in 2014, the networks' apart in colour.",
            plots.timeline,
        )
    )
    caption = (
        "Colour share: the part of a kernel's energy off the grey axis, 67 for noise. The towers, "
        "or halves of one tower, stand with the greyer first. Separation: how often a kernel of "
        "one has more colour than one of the other; 50 if they are alike, 100 if they share none."
    )
    columns = (
        *("network", "median colour share of the greyer, %", "of the other, %"),
        "separation, %",
    )
    lines = dict.fromkeys(
        run.recipe_line() for of in found.values() for run, _ in list(of.values())[:1]
    )
    table = Table("colours", caption, columns, rows)
    return Section([data.line, *lines], findings, [table], pictures)


def kernels_of(run, name: str, seed: int) -> Picture:
    return Picture(
        f"kernels-{name.replace(', ', '-').replace(' ', '-')}-{seed}",
        f"First-layer kernels of {name}, seed {seed}, each scaled to its largest number.",
        f"Small coloured squares in rows, one for each kernel of {name}.",
        lambda path: plots.kernels(run.on_host(), path),
    )


def labels_of(run, data) -> Picture:
    return Picture(
        "labels",
        "Eight validation images with the network's five best labels; the right one is green.",
        "Eight photographs, each over five bars with the labels' probabilities.",
        lambda path: plots.sample_predictions(run.on_host(), data.splits.val, path),
    )


def near_of(result, by: str, searched, queries) -> Picture:
    words = "the last hidden layer" if by == "features" else "pixels"

    def make(path):
        columns: list[list] = [[], [], []]
        for query, row in zip(result["queries"], result["nearest"], strict=True):
            columns[0].append(queries.image(query, 128))
            columns[1].append([searched.image(i, 128) for i in row])
            columns[2].append([name_of(queries, query), *(name_of(searched, i) for i in row)])
        shown, rows, labels = columns
        return plots.neighbors(shown, rows, path, f"nearest by {words}", labels)

    return Picture(
        f"nearest-{by}",
        f"Validation images on the left, and the training images nearest to each by {words}.",
        f"Rows of photographs, a query and its {NEAREST} nearest images.",
        make,
    )


def name_of(dataset, index: int) -> str:
    return dataset.class_names[dataset.labels[index]]


if __name__ == "__main__":
    raise SystemExit(alone(__file__))
