"""The parts of the live page: what is asked for one at a time, by a click or a slider."""

import json
from collections.abc import Sequence
from html import escape

import numpy as np

from minialex.errors import InputError
from minialex.layers import Conv2D
from minialex.plots.kernel_sheet import sheet as kernel_sheet
from minialex.results.chart import chart
from minialex.results.markup import Cell, Html, element, image, joined, table, tiles
from minialex.saliency import (
    Arithmetic,
    arithmetic,
    deconvolution,
    guided_gradient,
    receptive_field,
    unit_occlusion,
)
from minialex.saliency.arithmetic import NotKnown
from minialex.show import parts
from minialex.show.figure import shape_text
from minialex.show.look import Look, blocks
from minialex.show.pictures import Sheet, over, saliency, shades, sheet
from minialex.show.runs import Run, Search
from minialex.training import run_folder

_PRODUCTS = 12  # of the largest ones in a table
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


def channel(look: Look, name: str, k: int) -> Html:
    """About one map: what it is in the photograph, its kernel, its pixels."""
    y = output(look, name, k)
    model, one, crop = look.classifier.trained, look.image[None], look.crop()
    pixel = None
    if y.ndim == 3:
        row, column = divmod(int(np.argmax(y[..., k])), y.shape[1])
        pixel = (row, column)
    value = y[(*(pixel or ()), k)]
    shown: list[tuple[np.ndarray, str]] = []
    if pixel is not None:
        shown.append((over(crop, y[..., k]), "where it fires"))
        shown.append((_boxed(look, name, pixel), "what its strongest pixel depends on"))
    shown.append((saliency(deconvolution(model, one, name, k)[0]), "deconvolution"))
    shown.append((saliency(guided_gradient(model, one, name, k)[0]), "guided gradient"))
    said = f"{name}, channel {k}: largest {value:.4g}"
    if pixel is not None:
        said += f" at row {pixel[0]}, column {pixel[1]}; above 0 on {np.mean(y[..., k] > 0):.0%}"
    figures = [_tile(p, c) for p, c in shown]
    figures.append(element("figure", "", class_="covered"))  # computed later: it is slow
    grid = element("div", element("div", joined(figures), class_="tiles"), class_="large")
    left = joined([grid, _kernel(look, name, k), element("div", "", class_="strongest")])
    board = _pixels(name, y[..., k], k) if y.ndim == 3 else ""
    right = joined([board, unit(look, name, k, pixel)])
    columns = joined([element("div", left), element("div", right)])
    return joined([element("h4", said), element("div", columns, class_="about-map")])


def covered(look: Look, name: str, k: int) -> Html:
    """How much a map's strongest pixel falls where the photograph is covered."""
    if output(look, name, k)[..., k].max() <= 0:
        return element("p", "It does not fire here, so nothing can be covered.", class_="quiet")
    found = unit_occlusion(look.classifier.trained, look.image, name, k)
    picture = over(look.crop(), parts.spread(found, look.crop().shape[:2]))
    lost = max(0.0, float(found.drops.max()))
    said = (
        f"occlusion: covering the brightest part lowers {found.value:.4g} to "
        f"{found.value - lost:.4g}"
    )
    return joined([image(picture, said), element("figcaption", said)])


def _tile(picture: np.ndarray, said: str) -> Html:
    return element("figure", joined([image(picture, said), element("figcaption", said)]))


def _boxed(look: Look, name: str, pixel: tuple[int, int]) -> np.ndarray:
    """The crop with the receptive field of a pixel bright."""
    box = receptive_field(look.classifier.model.network, name, pixel)
    shown = look.crop() // 3
    rows, columns = slice(box.top, box.bottom), slice(box.left, box.right)
    shown[rows, columns] = look.crop()[rows, columns]
    return shown


def _kernel(look: Look, name: str, k: int) -> Cell:
    """The kernel of the convolution that makes channel k of the block with this layer."""
    network = look.classifier.model.network
    block = next(b for b in blocks(network.layers) if name in [n for n, _ in b.layers])
    first, conv = block.layers[0]
    if not isinstance(conv, Conv2D):
        return ""
    weight = np.asarray(
        look.classifier.devices.to_numpy(look.classifier.params[first]["weight"]), np.float64
    )[..., k]
    if weight.shape[2] == 3:
        pixels = kernel_sheet(weight[..., None]).repeat(2, axis=0).repeat(2, axis=1)
        said = f"its kernel in {first}, in colour"
    else:
        pixels = sheet(weight).pixels
        per_group = conv.channels // conv.groups
        reads = k // per_group * weight.shape[2]
        said = (
            f"its kernel in {first}, one square for each of the channels {reads} to "
            f"{reads + weight.shape[2] - 1} that it reads; grey is zero"
        )
    picture = image(pixels, said, exact=True)
    return element("figure", joined([element("figcaption", said), picture]), class_="kernel")


def _pixels(name: str, y: np.ndarray, k: int) -> Html:
    """A map whose pixels can be chosen."""
    zoom = max(3, min(24, 330 // max(y.shape)))
    big = shades(y).repeat(zoom, axis=0).repeat(zoom, axis=1)
    one = Sheet(big, y.shape[1], y.size, (zoom, zoom))
    said = "Click a pixel, or use the arrow keys, for the arithmetic behind it."
    figure = parts.sheet_figure(
        one, name, "", 0, kind="pixels", channel=k, caption=said, chosen=int(y.argmax())
    )
    return element("div", figure, class_="pixels")


def unit(look: Look, name: str, k: int, pixel: tuple[int, int] | None) -> Html:
    """The arithmetic behind one unit, and behind its input if that is a single number."""
    output(look, name, k)
    return element("div", joined(_arithmetic(look, name, k, pixel)), class_="arithmetic")


def _arithmetic(look: Look, name: str, k: int, pixel: tuple[int, int] | None) -> list[Cell]:
    try:
        found = arithmetic(look.classifier.trained, look.image, name, k, pixel)
    except NotKnown as error:
        return [element("p", str(error), class_="quiet")]
    content: list[Cell] = []
    names = [n for n, _ in look.classifier.model.network.layers]
    place = names.index(name)
    if found.inputs.size == 1 and place and look.outputs[names[place - 1]].shape[-1] > k:
        content += _arithmetic(look, names[place - 1], k, pixel)
    at = "" if pixel is None else f", row {pixel[0]}, column {pixel[1]}"
    content += [
        element("h4", f"The arithmetic of {name}, channel {k}{at}"),
        element("p", f"{found.formula} = {found.value:.6g}"),
        *(_products(found) if found.weights is not None else [_inputs(found)]),
        element("p", f"The network's own pass gave {found.computed:.6g}.", class_="quiet"),
    ]
    return content


def _products(found: Arithmetic) -> list[Cell]:
    """The largest products in a table, and all of them for the page to add up."""
    assert found.weights is not None
    products = found.products.reshape(-1)
    order = np.argsort(-np.abs(products), kind="stable")[:_PRODUCTS]
    rows: list[Sequence[Cell]] = []
    for k in order:
        where = np.unravel_index(k, found.inputs.shape)
        said = ", ".join(str(int(i)) for i in where)
        numbers = (found.inputs[where], found.weights[where], products[k])
        rows.append([said, *(f"{n:.4g}" for n in numbers)])
    rest = products.sum() - products[order].sum()
    left = len(products) - len(order)
    if left:
        rows.append([f"{left:,} others", "", "", f"{rest:.4g}"])
    rows.append(["bias", "", "", f"{found.bias:.4g}"])
    rows.append(["sum", "", "", f"{products.sum() + found.bias:.6g}"])
    corner = "row, column, channel" if found.inputs.ndim == 3 else "input"
    listed = json.dumps([float(f"{p:.7g}") for p in products])
    canvas = Html(
        f'<canvas class="sum" role="img" aria-label="the running sum of '
        f'{len(products):,} products" data-products="{escape(listed)}" '
        f'data-bias="{found.bias:.6g}"></canvas>'
    )
    sums = element(
        "figure",
        joined([element("figcaption", f"{len(products):,} products, added one by one"), canvas]),
    )
    pictures: list[Cell] = []
    if found.inputs.ndim == 3:
        for values, said in (
            (found.inputs, "inputs"),
            (found.weights, "weights"),
            (found.products, "products"),
        ):
            drawn = image(_small(values), said, exact=True)
            pictures.append(element("figure", joined([element("figcaption", said), drawn])))
    shown = element("div", joined(pictures), class_="factors") if pictures else ""
    head = (corner, "input", "weight", "product")
    return [sums, table(head, rows, class_="products"), shown]


def _small(values: np.ndarray) -> np.ndarray:
    """(R, S, C) as a sheet; three channels as colours."""
    if values.shape[2] == 3 and values.shape[0] > 1:
        top = np.abs(values).max() or 1
        colours = np.rint(127.5 + 127.5 * values / top).astype(np.uint8)
        zoom = max(1, 200 // max(values.shape[:2]))
        return colours.repeat(zoom, axis=0).repeat(zoom, axis=1)
    return sheet(values).pixels


def _inputs(found: Arithmetic) -> Cell:
    """The numbers that a unit without weights reads."""
    values = np.atleast_2d(found.inputs)
    if values.size == 1:
        return element("p", f"The input is {values[0, 0]:.6g}.", class_="quiet")
    rows = [[f"{v:.4g}" for v in row] for row in values]
    return table((), rows, class_="inputs")


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
    """Some of the validation images, to choose one of."""
    dataset = run.dataset()
    chosen = np.unique(np.linspace(0, len(dataset) - 1, min(count, len(dataset))).astype(int))
    buttons = []
    for index in chosen.tolist():
        label = dataset.class_names[int(dataset.labels[index])]
        picture = image(dataset.image(index, 96), label)
        data = {"data-index": str(index), "aria-label": f"validation image {index}: {label}"}
        buttons.append(element("button", picture, type="button", class_="thumb", **data))
    return element("div", joined(buttons), class_="thumbs")


def require_layer(look: Look, name: str) -> None:
    if name not in look.outputs:
        raise InputError(f"{look.classifier.model.name} has no layer {name!r}")


def output(look: Look, name: str, k: int) -> np.ndarray:
    require_layer(look, name)
    y = look.outputs[name]
    if not 0 <= k < y.shape[-1]:
        raise InputError(f"{name} has channels 0 to {y.shape[-1] - 1}, not {k}")
    return y
