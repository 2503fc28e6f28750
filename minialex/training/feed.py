"""How a batch becomes the network's input: host arrays as they are, or augmented photographs."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from minialex.backends.base import Array, Backend
from minialex.data.loading.loader import Batch
from minialex.data.preprocessing import Preprocessing
from minialex.layers import Conv2D
from minialex.network import Network
from minialex.parallel import Inputs


class Feed(Protocol):
    """What a training step asks about its batches."""

    @property
    def compilable(self) -> bool:
        """Whether the last three methods are there, so that the step can be compiled."""

    def labels(self, batch: Any) -> np.ndarray:
        """The labels (N,)."""

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
    """Batches of decoded photographs, augmented on the device: crops, mirrors, colour shifts."""

    preprocessing: Preprocessing
    seed: int = 0
    dtype: str = "float32"

    @property
    def compilable(self) -> bool:
        """Of RGB images; stacks of optical flow have no colour to shift on the device."""
        return self.preprocessing.statistics.mean.shape[2] == 3

    def labels(self, batch: Batch) -> np.ndarray:
        return batch.labels

    def inputs(self, batch: Batch, epoch: int, noise: float) -> Inputs:
        def of(b: Backend, first: int, end: int) -> Array:
            return self.preprocessing.training_input(
                b,
                batch.images[first:end],
                batch.positions[first:end],
                seed=self.seed,
                epoch=epoch,
                noise=noise,
                dtype=b.compute_dtype(self.dtype),
            )

        return of

    def constants(self, b: Backend) -> dict[str, Array]:
        return {"mean": b.asarray(self.preprocessing.mean, self.dtype)}

    def host_arrays(self, batch: Batch, epoch: int, noise: float) -> dict[str, np.ndarray]:
        draws, scale = self.preprocessing.training_draws(
            batch.positions, seed=self.seed, epoch=epoch, noise=noise
        )
        offsets = np.stack((draws.top, draws.left, draws.flip), axis=1)
        return {
            "images": batch.images,
            "offsets": offsets.astype(np.int32),
            "shift": np.asarray(draws.shift, self.dtype),
            "scale": np.array([scale], self.dtype),
        }

    def device_input(self, b: Backend, arrays: dict[str, Array], network: Network) -> Array:
        recipe, fixed = self.preprocessing.recipe, self.preprocessing.mean_corner
        corner = (-1, -1) if fixed is None else (fixed, fixed)
        view = (recipe.crop, arrays["mean"], corner, arrays["shift"], arrays["scale"])
        channels = input_channels(b, network, self.dtype)
        dtype = b.compute_dtype(self.dtype)
        return b.crops_at(arrays["images"], arrays["offsets"], *view, dtype, channels)


def input_channels(b: Backend, network: Network, dtype: str) -> int:
    """How many channels images get in a compiled step: some zeros may be copied faster."""
    first, channels = network.layers[0][1], network.input_shape[2]
    if not isinstance(first, Conv2D):
        return channels
    return b.channels_to_copy(channels, first.channels, first.groups, dtype)
