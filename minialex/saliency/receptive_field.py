"""Which pixels of the input a unit depends on."""

from dataclasses import dataclass

from minialex.backends.base import Pads
from minialex.errors import InputError
from minialex.layers import AveragePool, Conv2D, Dense, Layer, MaxPool, SpatialResponseNorm
from minialex.layers.base import Shape
from minialex.network import Network


@dataclass(frozen=True)
class Box:
    """Rows top … bottom - 1 and columns left … right - 1."""

    top: int
    left: int
    bottom: int
    right: int


def receptive_field(network: Network, layer: str, pixel: tuple[int, int] = (0, 0)) -> Box:
    """The pixels of the network's input behind one pixel of `layer`'s output, clipped to it.

    For a dense layer, and layers after it, these are all pixels. Raises InputError for a layer or
    a pixel that does not exist.
    """
    before = network.until(layer)
    *size, _ = before.shapes()[-1]
    if size and not (0 <= pixel[0] < size[0] and 0 <= pixel[1] < size[1]):
        raise InputError(f"{layer} has {size[0]} x {size[1]} pixels: there is no {pixel}")
    box = Box(pixel[0], pixel[1], pixel[0] + 1, pixel[1] + 1)
    for (_, one), shape in reversed(list(zip(before.layers, before.shapes()[:-1], strict=True))):
        box = _behind(one, shape, box)
    return box


@dataclass(frozen=True)
class Grid:
    """Where in the input the centres of a map's pixels lie: `top` + row x `step`, and so on."""

    top: float
    left: float
    step: float


def centres(network: Network, layer: str) -> Grid:
    """The centres of the receptive fields of `layer`, whose output is a map, before clipping."""
    before = network.until(layer)
    top = left = 0.0
    step = 1.0
    for (_, one), shape in zip(before.layers, before.shapes()[:-1], strict=True):
        if (found := _window(one, shape)) is not None:
            window, stride, pads = found
            top += ((window - 1) / 2 - pads[0][0]) * step
            left += ((window - 1) / 2 - pads[1][0]) * step
            step *= stride
    return Grid(top, left, step)


def _behind(layer: Layer, shape: Shape, box: Box) -> Box:
    """The pixels of a layer's input, of this shape, behind those in its output."""
    if isinstance(layer, Dense) or len(shape) == 1:
        return Box(0, 0, *shape[:2]) if len(shape) == 3 else box
    if (found := _window(layer, shape)) is None:
        return box
    window, stride, pads = found
    top, left = box.top * stride - pads[0][0], box.left * stride - pads[1][0]
    bottom = (box.bottom - 1) * stride - pads[0][0] + window
    right = (box.right - 1) * stride - pads[1][0] + window
    return Box(max(0, top), max(0, left), min(shape[0], bottom), min(shape[1], right))


def _window(layer: Layer, shape: Shape) -> tuple[int, int, Pads] | None:
    """Window, stride and padding of a layer on images; None if each pixel depends on itself."""
    if isinstance(layer, Conv2D):
        (stride, _), pads = layer.geometry(shape)[:2]
        return layer.kernel, stride, pads
    if isinstance(layer, MaxPool | AveragePool):
        (stride, _), pads = layer.geometry(shape)[1:]
        return layer.window, stride, pads
    if isinstance(layer, SpatialResponseNorm):
        around = layer.n // 2
        return layer.n, 1, ((around, around), (around, around))
    return None
