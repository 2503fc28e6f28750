"""All about one map of the live page: what it is in the photograph, and its arithmetic."""

import json
from collections.abc import Sequence
from html import escape

import numpy as np

from minialex.errors import InputError
from minialex.layers import AveragePool, Conv2D, Dense, MaxPool
from minialex.plots.kernel_sheet import sheet as kernel_sheet
from minialex.results.markup import Cell, Html, element, image, joined, table
from minialex.saliency import (
    Arithmetic,
    arithmetic,
    deconvolution,
    guided_gradient,
    receptive_field,
    unit_occlusion,
)
from minialex.saliency.arithmetic import NotKnown
from minialex.saliency.receptive_field import centres
from minialex.show import parts
from minialex.show.look import Look, blocks
from minialex.show.pictures import Sheet, over, saliency, shades, sheet

_PRODUCTS = 12  # of the largest ones in a table
_READS_OTHERS = (Conv2D, Dense, MaxPool, AveragePool)  # units not of its own channel and pixel


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
        shown.append((over(crop, y[..., k], centres(model.network, name)), "where it fires"))
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
    kind = look.classifier.model.network.layers[place][1]
    if found.inputs.size == 1 and place and not isinstance(kind, _READS_OTHERS):
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


def require_layer(look: Look, name: str) -> None:
    if name not in look.outputs:
        raise InputError(f"{look.classifier.model.name} has no layer {name!r}")


def output(look: Look, name: str, k: int) -> np.ndarray:
    require_layer(look, name)
    y = look.outputs[name]
    if not 0 <= k < y.shape[-1]:
        raise InputError(f"{name} has channels 0 to {y.shape[-1] - 1}, not {k}")
    return y
