"""Looks inside a trained network: every layer's output, and what in an image caused it.

All functions take a `TrainedModel` (`classifier.trained`) on any backend, and resized images, uint8
(N, S, S, C). They use the centre crop unless another view is given.
"""

from minialex.saliency.arithmetic import Arithmetic, arithmetic
from minialex.saliency.backward import RULES, deconvolution, gradient, guided_gradient, to_pixels
from minialex.saliency.forward import activations
from minialex.saliency.grad_cam import grad_cam, grad_cam_layer
from minialex.saliency.occlusion import Occlusion, occlusion, unit_occlusion
from minialex.saliency.receptive_field import Box, receptive_field
from minialex.saliency.strongest import Strongest, strongest

__all__ = [
    "RULES",
    "Arithmetic",
    "Box",
    "Occlusion",
    "Strongest",
    "activations",
    "arithmetic",
    "deconvolution",
    "grad_cam",
    "grad_cam_layer",
    "gradient",
    "guided_gradient",
    "occlusion",
    "receptive_field",
    "strongest",
    "to_pixels",
    "unit_occlusion",
]
