"""Turns batches into network input: host arrays used as is, or augmented photographs."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from minialex.backends.base import Array, Backend, Pair
from minialex.data.augment.warp_draws import random_mixing
from minialex.data.loading.loader import Batch
from minialex.data.preprocessing import Preprocessing
from minialex.errors import InputError
from minialex.layers import Conv2D
from minialex.network import Network
from minialex.parallel import Inputs
from minialex.training.targets import SoftTargets


class Feed(Protocol):
    """The interface between a training step and its batches."""

    @property
    def compilable(self) -> bool:
        """Whether the last three methods are implemented, so that the step can be compiled."""

    def labels(self, batch: Any) -> np.ndarray:
        """The labels (N,)."""

    def targets(self, batch: Any, epoch: int) -> np.ndarray:
        """The loss's targets: the labels (N,), or soft targets (N, K)."""

    def inputs(self, batch: Any, epoch: int, noise: float) -> Inputs:
        """Input for part of the batch, on any device; `noise` is the current colour noise."""

    def constants(self, b: Backend) -> dict[str, Array]:
        """Device arrays that are the same in every step."""

    def host_arrays(self, batch: Any, epoch: int, noise: float) -> dict[str, np.ndarray]:
        """Host arrays that change with each batch; their shapes and types do not.

        Each has one row for each image.
        """

    def device_input(self, b: Backend, arrays: dict[str, Array], network: Network) -> Array:
        """The network's input, computed on the device from both kinds of arrays."""


@dataclass(frozen=True)
class Tensors:
    """Batches (x, labels) of host arrays, where x (N, H, W, C) is the network's input."""

    dtype: str = "float32"
    compilable = False

    def labels(self, batch: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        return batch[1]

    def targets(self, batch: tuple[np.ndarray, np.ndarray], epoch: int) -> np.ndarray:
        return self.labels(batch)

    def inputs(self, batch: tuple[np.ndarray, np.ndarray], epoch: int, noise: float) -> Inputs:
        def of(b: Backend, first: int, end: int) -> Array:
            return b.asarray(batch[0][first:end], b.compute_dtype(self.dtype))

        return of

    def constants(self, b: Backend) -> dict[str, Array]:
        raise NotImplementedError

    def host_arrays(self, batch: Any, epoch: int, noise: float) -> dict[str, np.ndarray]:
        raise NotImplementedError

    def device_input(self, b: Backend, arrays: dict[str, Array], network: Network) -> Array:
        raise NotImplementedError


@dataclass(frozen=True)
class Photographs:
    """Batches of decoded photographs; the device crops, mirrors and shifts colours.

    All other augmentation runs on the host, once per batch. `soft` computes the targets if the
    recipe has other targets than labels.
    """

    preprocessing: Preprocessing
    seed: int = 0
    dtype: str = "float32"
    soft: SoftTargets | None = None

    def __post_init__(self) -> None:
        if self.soft is None and self.preprocessing.recipe.soft_targets:
            raise InputError("this recipe needs `soft`: see `targets.soft_targets`")

    @property
    def compilable(self) -> bool:
        """Whether images are RGB; stacks of optical flow have no colour to shift on the device."""
        return self.preprocessing.statistics.mean.shape[2] == 3

    def labels(self, batch: Batch) -> np.ndarray:
        return batch.labels

    def targets(self, batch: Batch, epoch: int) -> np.ndarray:
        if self.soft is None:
            return batch.labels
        alpha, mixing = self.preprocessing.recipe.mixup, None
        if alpha > 0:
            mixing = random_mixing(alpha, self.seed, epoch, batch.positions)
        return self.soft(batch.labels, mixing, self.dtype)

    def inputs(self, batch: Batch, epoch: int, noise: float) -> Inputs:
        images = self._images(batch, epoch)

        def of(b: Backend, first: int, end: int) -> Array:
            return self.preprocessing.training_input(
                b,
                images[first:end],
                batch.positions[first:end],
                seed=self.seed,
                epoch=epoch,
                noise=noise,
                dtype=b.compute_dtype(self.dtype),
            )

        return of

    def constants(self, b: Backend) -> dict[str, Array]:
        return {"mean": b.asarray(self.preprocessing.training_mean, self.dtype)}

    def host_arrays(self, batch: Batch, epoch: int, noise: float) -> dict[str, np.ndarray]:
        draws, scale = self.preprocessing.training_draws(
            batch.positions, seed=self.seed, epoch=epoch, noise=noise
        )
        offsets = np.stack((draws.top, draws.left, draws.flip), axis=1)
        return {
            "images": self._images(batch, epoch),
            "offsets": offsets.astype(np.int32),
            "shift": np.asarray(draws.shift, self.dtype),
            "scale": np.full(len(batch), scale, self.dtype),
        }

    def device_input(self, b: Backend, arrays: dict[str, Array], network: Network) -> Array:
        recipe, fixed = self.preprocessing.recipe, self.preprocessing.mean_corner
        corner = (-1, -1) if fixed is None or recipe.warps else (fixed, fixed)
        view = (recipe.crop, arrays["mean"], corner, arrays["shift"], arrays["scale"])
        layout = input_layout(b, network, self.dtype)
        dtype = b.compute_dtype(self.dtype)
        return b.crops_at(arrays["images"], arrays["offsets"], *view, dtype, *layout)

    def _images(self, batch: Batch, epoch: int) -> np.ndarray:
        return self.preprocessing.host_images(
            batch.images, batch.positions, seed=self.seed, epoch=epoch
        )


def input_layout(b: Backend, network: Network, dtype: str) -> tuple[int, Pair | None]:
    """The `channels` and `blocks` of a compiled step's images, as the first layer copies them."""
    first, (size, across, channels) = network.layers[0][1], network.input_shape
    if not isinstance(first, Conv2D):
        return channels, None
    convolution = (channels, first.channels, first.groups)
    if size == across and first.pad == 0 and first.rounding == "floor":
        window = (first.kernel, first.stride)
        if blocks := b.input_blocks(size, *convolution, window, dtype):
            return channels, blocks
    return b.channels_to_copy(*convolution, dtype), None
