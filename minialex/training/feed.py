"""How a batch becomes the network's input: host arrays as they are, or augmented photographs."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from minialex.backends.base import Array, Backend
from minialex.data.augment.warp_draws import random_mixing
from minialex.data.loading.loader import Batch
from minialex.data.preprocessing import Preprocessing
from minialex.errors import InputError
from minialex.layers import Conv2D
from minialex.network import Network
from minialex.parallel import Inputs
from minialex.training.targets import SoftTargets


class Feed(Protocol):
    """What a training step asks about its batches."""

    @property
    def compilable(self) -> bool:
        """Whether the last three methods are there, so that the step can be compiled."""

    def labels(self, batch: Any) -> np.ndarray:
        """The labels (N,)."""

    def targets(self, batch: Any, epoch: int) -> np.ndarray:
        """What the loss compares the scores with: the labels, or reals (N, K)."""

    def inputs(self, batch: Any, epoch: int, noise: float) -> Inputs:
        """The network's input for some images of the batch, on any device; `noise` as drawn now."""

    def constants(self, b: Backend) -> dict[str, Array]:
        """Arrays on the device that are the same in every step."""

    def host_arrays(self, batch: Any, epoch: int, noise: float) -> dict[str, np.ndarray]:
        """Arrays on the host that differ from batch to batch, of equal shapes and types."""

    def device_input(self, b: Backend, arrays: dict[str, Array], network: Network) -> Array:
        """The network's input from both kinds of arrays, where they lie on the device."""


@dataclass(frozen=True)
class Tensors:
    """Batches (x, labels) of host arrays, x (N, H, W, C) being the network's input itself."""

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
    """Batches of decoded photographs: crops, mirrors and colour shifts are made on the device.

    What else a recipe asks for is done on the host, once for a batch. `soft` makes the targets of
    a recipe that asks for other ones than labels.
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
        """Of RGB images; stacks of optical flow have no colour to shift on the device."""
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
            "scale": np.array([scale], self.dtype),
        }

    def device_input(self, b: Backend, arrays: dict[str, Array], network: Network) -> Array:
        recipe, fixed = self.preprocessing.recipe, self.preprocessing.mean_corner
        corner = (-1, -1) if fixed is None or recipe.warps else (fixed, fixed)
        view = (recipe.crop, arrays["mean"], corner, arrays["shift"], arrays["scale"])
        channels = input_channels(b, network, self.dtype)
        dtype = b.compute_dtype(self.dtype)
        return b.crops_at(arrays["images"], arrays["offsets"], *view, dtype, channels)

    def _images(self, batch: Batch, epoch: int) -> np.ndarray:
        return self.preprocessing.host_images(
            batch.images, batch.positions, seed=self.seed, epoch=epoch
        )


def input_channels(b: Backend, network: Network, dtype: str) -> int:
    """How many channels images get in a compiled step: some zeros may be copied faster."""
    first, channels = network.layers[0][1], network.input_shape[2]
    if not isinstance(first, Conv2D):
        return channels
    return b.channels_to_copy(channels, first.channels, first.groups, dtype)
