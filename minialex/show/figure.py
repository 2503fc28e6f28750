"""The network as the paper's figure 2 draws it, with what flows through it now."""

import base64
import io
from html import escape

import numpy as np

from minialex.layers import Conv2D, Dense
from minialex.layers.activations import ACTIVATIONS
from minialex.results.markup import Html
from minialex.show.look import Look, blocks
from minialex.show.pictures import heat, shades

_ROW, _TOP = 132, 18  # pixels for each tower, and above
_GAP = 34  # between layers
_Box = tuple[float, float, float, float]  # left, top, width, height of a front face

# The outputs that figure 2 and section 3.5 of the paper give, both towers together.
PAPER = (
    *("55 x 55 x 96", "27 x 27 x 256", "13 x 13 x 384", "13 x 13 x 384", "13 x 13 x 256"),
    *("4,096", "4,096", "1,000"),
)
PAPER_INPUT = "224 x 224 x 3"


def shape_text(shape: tuple[int, ...]) -> str:
    """55 x 55 x 96."""
    return " x ".join(f"{n:,}" for n in shape)


def paper_shapes(look: Look) -> dict[str, str]:
    """The paper's outputs for the network's layers, if it has five convolutions and three dense.

    A layer's output is that after its normalisation and pooling here and in the figure before them.
    """
    weighted = [
        (name, layer)
        for name, layer in look.classifier.model.network.layers
        if isinstance(layer, Conv2D | Dense)
    ]
    kinds = [type(layer) for _, layer in weighted]
    if kinds != [Conv2D] * 5 + [Dense] * 3:
        return {}
    return {name: shape for (name, _), shape in zip(weighted, PAPER, strict=True)}


def figure(look: Look, link: str = "#layer-") -> Html:
    """An SVG: a box for each layer and tower, its face the mean activation, and what it reads.

    Each box links to `link` with the layer's name.
    """
    network, paper = look.classifier.model.network, paper_shapes(look)
    drawn = [block for block in blocks(network.layers) if block.name in network.parameter_shapes()]
    towers = look.towers
    middle = _TOP + towers * _ROW / 2
    crop = look.crop()
    left, parts = 8.0, []
    front = (left, middle - 42, 84.0, 84.0)
    parts.append(_picture(crop, front, "the crop"))
    under = _TOP + towers * _ROW + 8
    shape = shape_text(network.input_shape)
    parts.append(_label(front, under, "input", shape, PAPER_INPUT if paper else ""))
    before, left = [front], left + 84 + _GAP
    lines: list[str] = []
    for block in drawn:
        (name, layer), *others = block.layers
        after = next((n for n, one in others if isinstance(one, ACTIVATIONS)), name)
        y = look.outputs[after]
        split = towers if y.shape[-1] % towers == 0 and block is not drawn[-1] else 1
        size, deep = _size(y.shape, network.input_shape[0], split)
        boxes = []
        for t, part in enumerate(np.split(y, split, axis=-1)):
            centre = middle if split == 1 else _TOP + (t + 0.5) * _ROW
            box = (left, centre - size[1] / 2, size[0], size[1])
            boxes.append(box)
            said = f"{name}, tower {t + 1}" if split > 1 else name
            parts.append(_box(box, deep, _face(part), f"{link}{name}", said))
        within = isinstance(layer, Conv2D) and layer.groups == split == len(before)
        for t, box in enumerate(boxes):
            sources = [before[t]] if within else before
            crosses = len(before) > 1 and not within
            lines += [_line(source, box, crosses) for source in sources]
        whole = network.shapes()[1 + [n for n, _ in network.layers].index(name)]
        parts.append(_label(boxes[-1], under, name, shape_text(whole), paper.get(name, "")))
        before = [(box[0], box[1], box[2] + deep, box[3]) for box in boxes]
        left += max(size[0] + deep + _GAP, 62.0 if len(y.shape) == 1 else 100.0)
    width, height = left + 6, _TOP + towers * _ROW + 50
    alt = (
        f"{look.classifier.model.name} with {towers} tower{'s' * (towers > 1)}, from left to right"
    )
    return Html(
        f'<svg class="figure2" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" '
        f'height="{height}" style="--wide: {width:.0f}px" role="group" '
        f'aria-label="{escape(alt)}">{"".join(lines + parts)}</svg>'
    )


def _size(
    shape: tuple[int, ...], input_side: int, towers: int
) -> tuple[tuple[float, float], float]:
    """Width and height of a front face, and how deep the box is."""
    channels = shape[-1] // towers
    if len(shape) == 1:
        high = 40 + 60 * min(1.0, channels / 2048)
        return (24.0, high), 4.0
    side = 30 + 54 * min(1.0, 4 * shape[0] / input_side)
    return (side, side), 6 + 20 * min(1.0, channels / 192)


def _face(y: np.ndarray) -> np.ndarray:
    """The mean over a tower's channels as heat, or its units in rows: uint8 (h, w, 3)."""
    if y.ndim == 1:
        columns = max(1, round(len(y) ** 0.5 / 2))
        padded = np.zeros(-(-len(y) // columns) * columns)
        padded[: len(y)] = y
        return heat(shades(np.maximum(0, padded)).reshape(-1, columns) / 255)
    mean = np.abs(y).mean(axis=2)
    return heat(mean / (mean.max() or 1))


def _data(pixels: np.ndarray) -> str:
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(content, "PNG")
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"


def _picture(pixels: np.ndarray, box: _Box, alt: str) -> str:
    left, top, width, height = box
    return (
        f'<image x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" '
        f'preserveAspectRatio="none" href="{_data(pixels)}"><title>{escape(alt)}</title></image>'
    )


def _box(box: _Box, deep: float, pixels: np.ndarray, link: str, alt: str) -> str:
    """A cuboid: its front the picture, its top and right side to show how deep it is."""
    left, top, width, height = box
    up = deep * 0.5
    right, bottom = left + width, top + height
    lid = f"{left},{top} {left + deep},{top - up} {right + deep},{top - up} {right},{top}"
    side = f"{right},{top} {right + deep},{top - up} {right + deep},{bottom - up} {right},{bottom}"
    return (
        f'<a href="{escape(link)}" aria-label="{escape(alt)}">'
        f'<polygon class="lid" points="{lid}"/><polygon class="side" points="{side}"/>'
        f"{_picture(pixels, box, alt)}"
        f'<rect class="edge" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" '
        f'height="{height:.1f}"/></a>'
    )


def _line(source: _Box, to: _Box, crossing: bool) -> str:
    """From the right side of one box to the left side of another."""
    x1, y1 = source[0] + source[2] + 2, source[1] + source[3] / 2
    x2, y2 = to[0] - 3, to[1] + to[3] / 2
    kind = "crossing" if crossing and abs(y1 - y2) > 1 else "within"
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _label(box: _Box, under: float, name: str, live: str, paper: str) -> str:
    x = box[0] + box[2] / 2
    lines = [(name, "name"), (live, "live"), (paper, "paper")]
    return "".join(
        f'<text class="{kind}" x="{x:.1f}" y="{under + 13 * i:.1f}" text-anchor="middle">'
        f"{escape(said)}</text>"
        for i, (said, kind) in enumerate(lines)
        if said
    )
