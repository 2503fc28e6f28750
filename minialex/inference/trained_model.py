"""A trained model as one value: network, weights, preprocessing, and the devices they are on."""

from dataclasses import dataclass

import numpy as np

from minialex.backends.base import Array, Backend
from minialex.data.preprocessing import Preprocessing
from minialex.errors import InputError
from minialex.network import Network
from minialex.parallel import Devices
from minialex.tree import Tree


@dataclass(frozen=True)
class TrainedModel:
    """Computes a network's outputs for resized images, uint8 (N, S, S, 3).

    `params` are on `devices`, which hold `network`; activations have type `dtype`.
    """

    network: Network
    params: Tree
    preprocessing: Preprocessing
    devices: Devices
    dtype: str = "float32"

    def probabilities(self, images: np.ndarray, crops: int = 1) -> np.ndarray:
        """Class probabilities, the mean over `crops` views: (N, S, S, 3) -> float64 (N, K).

        Of ten views, those that are mirrored are left out if training did not mirror images.
        """
        views = self.preprocessing.views(crops)
        total = np.zeros((len(images), self.network.classes))
        for view in views:
            total += softmax(self.scores(images, view))
        return total / len(views)

    def scores(
        self, images: np.ndarray, view: tuple[int, int, bool], layer: str | None = None
    ) -> np.ndarray:
        """The network's output (or `layer`'s) for one view of every image: float64 (N, ...).

        `view` is one of `preprocessing.views`: top, left, mirrored.
        """

        def inputs(b: Backend, first: int, end: int) -> Array:
            dtype = b.compute_dtype(self.dtype)
            return self.preprocessing.test_input(b, images[first:end], view, dtype)

        y = self.devices.infer(self.params, inputs, len(images), layer)
        return y.astype(np.float64)


def softmax(y: np.ndarray) -> np.ndarray:
    """Probabilities along the last axis; rows with NaN or Inf give NaN, which is never right."""
    with np.errstate(invalid="ignore"):
        exponentials = np.exp(y - np.max(y, axis=-1, keepdims=True))
        return exponentials / np.sum(exponentials, axis=-1, keepdims=True)


def require_finite(outputs: np.ndarray) -> np.ndarray:
    """`outputs`; InputError if they have NaN or Inf, which no answer can be read from."""
    if not np.isfinite(outputs).all():
        raise InputError(
            "the network's outputs are not finite: its weights are damaged, or need another "
            "`precision`, such as fp32"
        )
    return outputs
