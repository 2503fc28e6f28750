"""From one unit back to the pixels: its gradient, the guided gradient, and the deconvnet.

gradient        the derivative of the unit with respect to each pixel
guided          the same, but every ReLU passes only what raises the unit
                (Springenberg et al., 2015)
deconvolution   the unit's own activation sent back: filters transposed, maxima put back where
                they were, and a ReLU at every ReLU (Zeiler & Fergus, 2014). Their network has
                no counterpart for response normalisation: it is passed unchanged.
"""

import numpy as np

from minialex.backends.base import Array, Backend
from minialex.errors import InputError, unknown
from minialex.fusion import Stage
from minialex.inference.trained_model import TrainedModel
from minialex.layers import Conv2D, Dense, ReLU, ResponseNorm, SpatialResponseNorm
from minialex.layers.base import Saved
from minialex.saliency.forward import Pass, View, as_computed, forward, host, require_layers
from minialex.tree import Tree

RULES = ("gradient", "guided", "deconvolution")
_NORMALISATIONS = (ResponseNorm, SpatialResponseNorm)


def gradient(
    model: TrainedModel,
    images: np.ndarray,
    layer: str,
    channel: int,
    pixel: tuple[int, int] | None = None,
) -> np.ndarray:
    """`to_pixels` by the plain gradient."""
    return to_pixels(model, images, layer, channel, pixel, rule="gradient")


def guided_gradient(
    model: TrainedModel,
    images: np.ndarray,
    layer: str,
    channel: int,
    pixel: tuple[int, int] | None = None,
) -> np.ndarray:
    """`to_pixels` by the guided gradient (Springenberg et al., 2015)."""
    return to_pixels(model, images, layer, channel, pixel, rule="guided")


def deconvolution(
    model: TrainedModel,
    images: np.ndarray,
    layer: str,
    channel: int,
    pixel: tuple[int, int] | None = None,
) -> np.ndarray:
    """`to_pixels` by the deconvnet (Zeiler & Fergus, 2014)."""
    return to_pixels(model, images, layer, channel, pixel, rule="deconvolution")


def to_pixels(
    model: TrainedModel,
    images: np.ndarray,
    layer: str,
    channel: int,
    pixel: tuple[int, int] | None = None,
    rule: str = "guided",
    view: View | None = None,
) -> np.ndarray:
    """What in the crops of `images` activates one unit: (N, S, S, C) -> (N, crop, crop, C).

    The unit is that of `channel` at `pixel` (row, column) of `layer`'s output; without a pixel, the
    channel's strongest one in each image. A dense layer has channels only. `rule` is one of RULES.
    Raises InputError for a layer, a channel or a pixel that does not exist.
    """
    if rule not in RULES:
        raise unknown("rule", rule, RULES)
    require_layers(model, [layer])
    run = forward(model, images, view, layer)
    y = host(run.b, run.run())
    units = one_unit(y, channel, pixel, layer)
    dy = np.where(units, y if rule == "deconvolution" else 1, 0).astype(y.dtype)
    return host(run.b, back(run, as_computed(run, dy), rule))


def one_unit(
    y: np.ndarray, channel: int, pixel: tuple[int, int] | None, layer: str = "the layer"
) -> np.ndarray:
    """Which entry of an output (N, P, Q, K) or (N, K) is the unit, one for each image: bool."""
    chosen = np.zeros(y.shape, bool)
    if not 0 <= channel < y.shape[-1]:
        raise InputError(f"{layer} has channels 0 to {y.shape[-1] - 1}, not {channel}")
    if y.ndim == 2:
        if pixel is not None:
            raise InputError(f"{layer} has no pixels: give only the channel")
        chosen[:, channel] = True
        return chosen
    if pixel is not None and not (0 <= pixel[0] < y.shape[1] and 0 <= pixel[1] < y.shape[2]):
        raise InputError(f"{layer} has {y.shape[1]} x {y.shape[2]} pixels: there is no {pixel}")
    for n in range(len(y)):
        at = pixel or np.unravel_index(np.argmax(y[n, :, :, channel]), y.shape[1:3])
        chosen[n, at[0], at[1], channel] = True
    return chosen


def back(run: Pass, dy: Array, rule: str = "gradient") -> Array:
    """dx of the pass's input from dy of its output; empties `run.saved`, to free memory."""
    while run.saved:
        stage, kept = run.saved.pop()
        with run.b.device_context():
            dy = _through(run.b, run.params, stage, kept, dy, rule)
    return dy


def _through(b: Backend, params: Tree, stage: Stage, saved: Saved, dy: Array, rule: str) -> Array:
    """dx of one layer; gradients of its parameters are not computed where there is a way around."""
    layer, own = stage.layer, params.get(stage.name, {})
    if rule != "gradient" and isinstance(layer, ReLU):
        dy = b.relu(dy)
        if rule == "deconvolution":
            return dy
    if rule == "deconvolution" and isinstance(layer, _NORMALISATIONS):
        return dy
    if type(layer) is Conv2D:
        geometry = layer.geometry(saved.shape[1:])
        return b.convolution_input_gradient(dy, own["weight"], saved.shape, *geometry)
    if type(layer) is Dense:
        return b.dense_input_gradient(dy, own["weight"], saved.shape)
    return stage.backward(b, params, saved, dy)[0]
