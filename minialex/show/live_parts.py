"""The parts of the live page: what is asked for one at a time, by a click or a slider."""

import numpy as np

from minialex.errors import InputError
from minialex.results.chart import chart
from minialex.results.markup import Cell, Html, element, image, joined, tiles
from minialex.saliency import receptive_field
from minialex.show import parts
from minialex.show.about_map import output, require_layer
from minialex.show.figure import shape_text
from minialex.show.look import Look, blocks
from minialex.show.runs import Run, Search
from minialex.training import run_folder

_NEAREST = 9


def answers(look: Look) -> Html:
    """What the network sees, and its five most probable classes."""
    crop = image(look.crop(), "the centre crop of the photograph")
    content = [crop, parts.bars(look, look.probabilities, choose=True)]
    return element("div", joined(content), class_="answer")


def layer_list(look: Look) -> Html:
    """Every layer, folded; its maps are asked for when it is opened."""
    found = []
    for block in blocks(look.classifier.model.network.layers):
        inner = [
            element(
                "details",
                element("summary", f"{name}: {type(layer).__name__}, "
                        f"{shape_text(look.outputs[name].shape)}"),
                **{"data-part": "layer", "data-layer": name},
            )
            for name, layer in block.layers
        ]  # fmt: skip
        names = ", ".join(name for name, _ in block.layers)
        found.append(element("section", joined([element("h4", names), *inner]), class_="block"))
    said = "Open a layer to see its maps. Click one, or use the arrow keys, for its details."
    return joined([element("p", said, class_="quiet"), *found])


def layer(look: Look, name: str) -> Html:
    """A layer's maps."""
    require_layer(look, name)
    return parts.layer(look, name)


def strongest(look: Look, search: Search, name: str, k: int) -> Html:
    """The nine strongest images of a channel among the validation images."""
    output(look, name, k)
    if name not in search.strongest:
        return element("p", f"{name} comes after the last hidden layer.", class_="quiet")
    found = search.strongest[name]
    size = look.classifier.preprocessing.recipe.image_size
    shown = []
    for value, index, pixel in zip(found.values[k], found.indices[k], found.pixels[k], strict=True):
        pixels = search.dataset.image(int(index), size)
        patch = _patch(look, pixels, name, (int(pixel[0]), int(pixel[1])))
        label = search.dataset.class_names[int(search.dataset.labels[int(index)])]
        shown.append((image(patch, label, side=96), f"{value:.3g} {label}"))
    said = f"of {_images(search)}; what its strongest pixel depends on"
    return joined(
        [
            element("h4", "Nine strongest images"),
            element("p", said, class_="quiet"),
            element("div", tiles(shown), class_="small"),
        ]
    )


def _images(search: Search) -> str:
    """How many images a search has seen."""
    return f"{search.read:,} validation images{'' if search.done else ' so far'}"


def _patch(look: Look, pixels: np.ndarray, name: str, pixel: tuple[int, int]) -> np.ndarray:
    """The part of an image's centre crop that a pixel of a layer depends on."""
    network = look.classifier.model.network
    [(top, left, _)] = look.classifier.preprocessing.views(1)
    box = receptive_field(network, name, pixel)
    return pixels[top + box.top : top + box.bottom, left + box.left : left + box.right]


def nearest(look: Look, search: Search) -> Html:
    """The validation images whose features are nearest to the photograph's."""
    name = look.classifier.model.network.feature_layer()
    features = look.outputs[name].reshape(-1).astype(np.float64)
    shown = []
    for index, apart in search.nearest(features, _NEAREST):
        label = search.dataset.class_names[int(search.dataset.labels[index])]
        shown.append((image(search.thumb(index), label), f"{label} ({apart:.1f})"))
    said = f"By the distance of {name}'s {features.size:,} numbers, of {_images(search)}."
    return joined(
        [
            element("p", said, class_="quiet"),
            element("div", tiles(shown), class_="small"),
        ]
    )


def curves(run: Run) -> Cell:
    """Loss and accuracy by epoch and the loss by step, as far as they are."""
    if run.folder is None:
        return element("p", "A weight file has no curves.", class_="quiet")
    history = run_folder.read_history(run.folder)

    def points(column: str, sign: int = 1) -> list[tuple[float, float]]:
        rows = ((row.get("epoch"), row.get(column)) for row in history)
        values = [(x, y) for x, y in rows if isinstance(x, float) and isinstance(y, float)]
        return [(x, y if sign > 0 else 1 - y) for x, y in values]

    losses = {"training": points("train_loss"), "validation": points("val_loss")}
    errors = {"top-1": points("val_top1_error"), "top-5": points("val_top5_error")}
    drawn = [
        ("Loss by epoch", chart(losses, "loss by epoch")),
        ("Validation error by epoch", chart(errors, "validation error by epoch", percent=True)),
        ("Loss by step", chart({"training": _steps(run)}, "loss by step", x_label="step")),
    ]
    figures = [
        element("figure", joined([element("figcaption", said), svg])) for said, svg in drawn if svg
    ]
    if not figures:
        return element("p", "No step is finished yet.", class_="quiet")
    return element("div", joined(figures), class_="pair")


def _steps(run: Run) -> list[tuple[float, float]]:
    """Up to 400 means of the loss by step."""
    assert run.folder is not None
    rows = run_folder.read_steps(run.folder)
    size = -(-len(rows) // 400) or 1
    means = []
    for start in range(0, len(rows), size):
        some = rows[start : start + size]
        means.append((some[-1][0], sum(loss for _, loss in some) / len(some)))
    return means


def validation(run: Run, count: int = 24) -> Html:
    """Some of the validation images, to choose one of; without those that cannot be read."""
    dataset = run.dataset()
    chosen = np.unique(np.linspace(0, len(dataset) - 1, min(count, len(dataset))).astype(int))
    buttons = []
    for index in chosen.tolist():
        label = dataset.class_names[int(dataset.labels[index])]
        try:
            picture = image(dataset.image(index, 96), label)
        except (InputError, OSError):
            continue  # it is left out of everything else, too
        data = {"data-index": str(index), "aria-label": f"validation image {index}: {label}"}
        buttons.append(element("button", picture, type="button", class_="thumb", **data))
    return element("div", joined(buttons), class_="thumbs")
