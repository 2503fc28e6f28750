"""Grad-CAM: where in the image the evidence for a class is (Selvaraju et al., 2017)."""

import numpy as np

from minialex.errors import InputError
from minialex.inference.trained_model import TrainedModel
from minialex.layers import BatchNorm, Conv2D
from minialex.layers.activations import ACTIVATIONS
from minialex.network import Network
from minialex.saliency.backward import back, one_unit
from minialex.saliency.forward import View, as_computed, forward, host, require_layers


def grad_cam(
    model: TrainedModel,
    images: np.ndarray,
    label: int,
    layer: str | None = None,
    view: View | None = None,
) -> np.ndarray:
    """max(0, Σ_c a_c y_c) over the channels of `layer`: (N, S, S, C) -> (N, P, Q).

    y is the layer's output, a_c the mean over its pixels of the gradient of class `label`'s score
    (before the softmax). `layer` (None: `grad_cam_layer`) has an output with pixels.
    """
    name = grad_cam_layer(model.network) if layer is None else layer
    y, dy = score_gradient(model, images, label, name, view)
    weights = dy.mean(axis=(1, 2), keepdims=True)  # (N, 1, 1, C)
    return np.maximum(0, np.sum(weights * y, axis=3))


def grad_cam_layer(network: Network) -> str:
    """The last convolution's output, after the normalisation and activation that come next."""
    places = [i for i, (_, layer) in enumerate(network.layers) if isinstance(layer, Conv2D)]
    if not places:
        raise InputError("the network has no convolution, so Grad-CAM cannot locate the evidence")
    i = places[-1]
    for kinds in (BatchNorm, ACTIVATIONS):
        if i + 1 < len(network.layers) and isinstance(network.layers[i + 1][1], kinds):
            i += 1
    return network.layers[i][0]


def score_gradient(
    model: TrainedModel, images: np.ndarray, label: int, layer: str, view: View | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """`layer`'s output and the gradient of class `label`'s score there, both (N, P, Q, C)."""
    require_layers(model, [layer])
    run = forward(model, images, view)
    kept, y, before = None, run.x, 0
    for name, y in run:
        if name == layer:
            kept, before = host(run.b, y), len(run.saved)
    assert kept is not None
    if kept.ndim != 4:
        raise InputError(f"{layer} has an output without pixels: choose an earlier layer")
    scores = host(run.b, y)
    dy = one_unit(scores, label, None, "the network").astype(scores.dtype)
    run.saved = run.saved[before:]
    return kept, host(run.b, back(run, as_computed(run, dy)))
