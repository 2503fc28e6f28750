"""The parts of a page about one photograph in one network, as HTML."""

from collections.abc import Callable, Sequence

import numpy as np

from minialex.errors import InputError
from minialex.inference.classifier import Classifier
from minialex.layers import Conv2D, Layer, ResponseNorm, SpatialResponseNorm
from minialex.layers.activations import ACTIVATIONS
from minialex.plots.kernel_sheet import kernel_sheets
from minialex.results.markup import Cell, Html, element, image, joined, table, tiles
from minialex.saliency import (
    Occlusion,
    deconvolution,
    grad_cam,
    grad_cam_layer,
    gradient,
    guided_gradient,
    occlusion,
)
from minialex.saliency.receptive_field import centres
from minialex.show.figure import PAPER_INPUT, figure, paper_shapes, shape_text
from minialex.show.look import Block, Look, blocks
from minialex.show.pictures import Sheet, over, saliency, sheet

_NORMALISATIONS = (ResponseNorm, SpatialResponseNorm)


def answers(look: Look) -> Html:
    """The five most probable classes, of the centre crop and of all crops, as bars."""
    mean = look.crop_probabilities.mean(axis=0)
    columns = [("centre crop", look.probabilities), (look.crops_said, mean)]
    return element(
        "div",
        joined(
            element("figure", joined([element("figcaption", said), bars(look, p)]))
            for said, p in columns
        ),
        class_="pair answers",
    )


def bars(look: Look, p: np.ndarray, choose: bool = False) -> Html:
    """The five most probable classes as bars; with `choose`, their names are buttons."""
    order = np.argsort(-p, kind="stable")[:5].tolist()
    rows = []
    for label, one in zip(order, look.top(p), strict=True):
        name = element("span", one.name, class_="class")
        if choose:
            data = {"data-label": str(label), "title": "show where the evidence for it is"}
            name = element("button", one.name, class_="class", type="button", **data)
        bar = element("span", "", class_="bar", style=f"--share:{one.probability:.4f}")
        share = element("span", f"{one.probability:.1%}", class_="share")
        rows.append(element("li", joined([name, bar, share])))
    return element("ol", joined(rows), class_="bars")


def crops(look: Look) -> Html:
    """The photograph with the crops drawn on it, and each crop's first answer."""
    square, whole = look.photo.square, look.photo.whole
    size, side = len(square), look.classifier.preprocessing.recipe.crop
    shown = square if whole is None else whole
    top, left = (shown.shape[0] - size) // 2, (shown.shape[1] - size) // 2
    views = look.classifier.preprocessing.views(10)
    places = sorted(zip(_CROPS, views, strict=False), key=lambda place: place[0] == "centre")
    frames = [_frame(name, left + x, top + y, side) for name, (y, x, _) in places]
    if whole is not None:
        frames.insert(0, _shade(whole.shape[:2], left, top, size))
    high, wide = shown.shape[:2]
    picture = image(shown, look.photo.name).text.partition('src="')[2].rstrip('">')
    drawn = Html(
        f'<svg class="crops" viewBox="0 0 {wide} {high}" width="{wide}" height="{high}" role="img" '
        f'aria-label="the photograph with the five crops">'
        f'<image width="{wide}" height="{high}" href="{picture}"/>{"".join(frames)}</svg>'
    )
    used = "Only the bright square is used. " if whole is not None else ""
    five = f"{used}Each of the five crops, {side} x {side} of {size} x {size} pixels, is used"
    said = f"{five} twice, once mirrored; the ten answers are averaged."
    if not look.classifier.preprocessing.recipe.mirror:
        said = f"{five} once and not mirrored, as in training; the answers are averaged."
    small, names = [], (2 * _CROPS)[: len(views)]
    for name, view, p in zip(names, views, look.crop_probabilities, strict=True):
        best = look.top(p, 1)[0]
        swatch = element("i", "", class_=f"swatch {name.replace(' ', '-')}")
        caption = joined([swatch, element("b", best.name), f" {_percent(best.probability)}"])
        where = f"{name}, mirrored" if view[2] else name
        small.append((image(look.crop(view), f"crop: {where}: {best.name}"), caption))
    content = [
        element("figure", joined([drawn, element("figcaption", said)])),
        element("div", tiles(small), class_="small"),
    ]
    return element("div", joined(content), class_="beside")


_CROPS = ("top left", "top right", "centre", "bottom left", "bottom right")  # then mirrored


def _frame(name: str, left: int, top: int, side: int) -> str:
    kind = name.replace(" ", "-")
    return (
        f'<rect class="{kind}" x="{left + 0.5}" y="{top + 0.5}" width="{side - 1}" '
        f'height="{side - 1}"><title>{name}</title></rect>'
    )


def _shade(shape: tuple[int, ...], left: int, top: int, size: int) -> str:
    """Darkens what is outside the square."""
    high, wide = shape
    outside = f"M0 0H{wide}V{high}H0ZM{left} {top}v{size}h{size}v-{size}Z"
    return f'<path class="unused" d="{outside}"/>'


def network(look: Look, link: str = "#layer-") -> Html:
    """The network as figure 2 draws it."""
    said = (
        "Each face is the mean activation of a tower's channels, from dark to bright; crossing "
        "lines show where one tower reads the other."
    )
    if paper_shapes(look):
        said += " Below each layer: this network's output, and the paper's."
    return element(
        "figure",
        joined([element("div", figure(look, link), class_="wide"), element("figcaption", said)]),
    )


def numbers(look: Look) -> Html:
    """The paper's numbers beside this network's and this photograph's."""
    net, paper = look.classifier.model.network, paper_shapes(look)
    shapes = dict(zip((name for name, _ in net.layers), net.shapes()[1:], strict=True))
    rows: list[Sequence[Cell]] = []
    if paper:
        rows.append(["input", PAPER_INPUT, shape_text(net.input_shape), "", "", ""])
    counts = {row.name: row.parameters for row in net.rows()}
    for block in blocks(net.layers):
        name = block.name
        if name not in counts or not counts[name]:
            continue
        active = next((n for n, one in block.layers if isinstance(one, ACTIVATIONS)), name)
        y = look.outputs[active]
        live = f"{np.mean(y > 0):.0%}", f"{y.max():.3g}"
        cells = [name, *([paper.get(name, "")] if paper else [])]
        rows.append([*cells, shape_text(shapes[name]), f"{counts[name]:,}", *live])
    header = ("layer", *(["paper"] if paper else []), "this network", "parameters")
    return table((*header, "units above 0", "largest"), rows, class_="numbers")


def layers(look: Look) -> Html:
    """Every layer's maps by tower, in the network's order."""
    return joined(block(look, one) for one in blocks(look.classifier.model.network.layers))


def block(look: Look, one: Block) -> Html:
    """The layers of one block, each folded."""
    names = ", ".join(name for name, _ in one.layers)
    inner = [_layer(look, name, layer, name == one.name) for name, layer in one.layers]
    return element(
        "section", joined([element("h3", names), *inner]), id=f"layer-{one.name}", class_="block"
    )


def _layer(look: Look, name: str, kind: Layer, opened: bool) -> Html:
    said = f"{name}: {type(kind).__name__}, {shape_text(look.outputs[name].shape)}"
    attributes = {"open": ""} if opened else {}
    inner = joined([element("summary", said), layer(look, name)])
    return element("details", inner, **attributes)


def layer(look: Look, name: str) -> Html:
    """A layer's maps by tower; of a normalisation, before and after it."""
    named = look.classifier.model.network.layers
    place = [n for n, _ in named].index(name)
    if place and isinstance(named[place][1], _NORMALISATIONS):
        return _normalisation(look, named[place - 1][0], name)
    return sheets(look, name, look.outputs[name])


def sheets(look: Look, name: str, y: np.ndarray, largest: float | None = None) -> Html:
    """A layer's maps, a sheet for each tower."""
    split = look.towers if y.shape[-1] % look.towers == 0 and name != _last(look) else 1
    parts = np.split(y, split, axis=-1)
    top = float(np.abs(y).max()) if largest is None else largest
    drawn = []
    for t, part in enumerate(parts):
        where = f"tower {t + 1}" if split > 1 else "all channels"
        drawn.append(sheet_figure(sheet(part, top), name, where, t * part.shape[-1]))
    return element("div", joined(drawn), class_="towers")


def sheet_figure(
    one: Sheet,
    layer: str,
    where: str,
    first: int,
    *,
    kind: str = "maps",
    channel: int = 0,
    caption: str = "",
    chosen: int | None = None,
) -> Html:
    """A sheet whose maps can be chosen by mouse and arrow keys (see look.js).

    Of `kind` "pixels" they are the pixels of one `channel`. One may be `chosen` already.
    """
    said = caption or f"{where}: channels {first} to {first + one.count - 1}"
    picture = image(one.pixels, f"{layer}: {said}", exact=True)
    data = {
        "data-kind": kind,
        "data-channel": str(channel),
        "data-layer": layer,
        "data-first": str(first),
        "data-count": str(one.count),
        "data-columns": str(one.columns),
        "data-high": str(one.cell[0]),
        "data-wide": str(one.cell[1]),
        "data-gap": str(one.gap),
        **({} if chosen is None else {"data-chosen": str(chosen)}),
    }
    board = element(
        "div", picture, class_="sheet", tabindex="0", role="group", **data,
        **{"aria-label": f"{layer}, {said}; choose with the arrow keys"},
    )  # fmt: skip
    return element("figure", joined([element("figcaption", said), board]))


def _normalisation(look: Look, previous: str, name: str) -> Html:
    """The maps before and after, and by how much they were divided."""
    before, after = look.outputs[previous], look.outputs[name]
    divided = before[after != 0] / after[after != 0]
    said = "Nothing is active here."
    if divided.size:
        said = f"Active units are divided by {divided.min():.2f} to {divided.max():.2f}."
    return joined(
        [
            element("p", said, class_="quiet"),
            element("h4", "before"),
            sheets(look, previous, before),
            element("h4", "after"),
            sheets(look, name, after),
        ]
    )


def _last(look: Look) -> str:
    return look.classifier.model.network.layers[-1][0]


def kernels(classifier: Classifier) -> Cell:
    """The first layer's kernels by tower; "" for a network without kernels over RGB."""
    try:
        found = kernel_sheets(classifier)
    except InputError:
        return ""
    figures = [
        element("figure", joined([image(pixels, said, exact=True), element("figcaption", said)]))
        for said, pixels in found
    ]
    said = "Each is scaled to its largest weight; grey is zero. Colourfulness of noise is 67%."
    return joined(
        [element("p", said, class_="quiet"), element("div", joined(figures), class_="kernels")]
    )


def where_it_looks(
    look: Look, label: int | None = None, on_batch: Callable[[int], object] = lambda images: None
) -> Html:
    """Where in the crop the evidence for a class is (None: the first answer), by five methods."""
    label = look.label if label is None else label
    model, one, crop = look.classifier.trained, look.image[None], look.crop()
    name = look.classifier.class_names[label]
    net = model.network
    last = net.layers[-1][0]
    covered = occlusion(model, look.image, label, on_batch=on_batch)
    shown = [
        (crop, f"the centre crop: {name} {covered.value:.1%}"),
        (
            over(crop, spread(covered, crop.shape[:2])),
            f"occlusion: covering the brightest part costs {_share(covered.drops.max())}",
        ),
    ]
    if any(isinstance(layer, Conv2D) for _, layer in net.layers):
        at = grad_cam_layer(net)
        shown.append(
            (over(crop, grad_cam(model, one, label)[0], centres(net, at)), f"Grad-CAM at {at}")
        )
        y = look.outputs[at]
        channel = int(y.max(axis=(0, 1)).argmax())
        back = deconvolution(model, one, at, channel)[0]
        shown.append((saliency(back), f"deconvolution of {at}'s strongest unit, channel {channel}"))
    guided = guided_gradient(model, one, last, label)[0]
    shown.append((saliency(guided), "guided gradient of the score"))
    shown.append((saliency(gradient(model, one, last, label)[0]), "gradient of the score"))
    return element("div", tiles((image(p, said), said) for p, said in shown), class_="large")


def _percent(p: float) -> str:
    """A probability without decimals, unless it would be 0%."""
    return f"{p:.0%}" if p >= 0.005 else f"{p:.1%}"


def _share(drop: float) -> str:
    """A drop in probability; what rounds to nothing in words."""
    return f"{drop:.1%}" if drop >= 0.0005 else "less than 0.1%"


def spread(covered: Occlusion, shape: tuple[int, ...]) -> np.ndarray:
    """The mean drop of the windows that cover each pixel of a crop: (H, W)."""
    total, count, side = np.zeros(shape), np.zeros(shape), covered.window
    for i, top in enumerate(covered.tops):
        for j, left in enumerate(covered.lefts):
            total[top : top + side, left : left + side] += covered.drops[i, j]
            count[top : top + side, left : left + side] += 1
    return total / np.maximum(1, count)
