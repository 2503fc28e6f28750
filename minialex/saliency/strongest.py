"""The images of a data set that activate each channel of each layer most strongly."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from minialex.data.loading.loader import Loader
from minialex.errors import InputError
from minialex.inference.trained_model import TrainedModel
from minialex.saliency.forward import forward, host, require_layers

_BATCH = 32


@dataclass(frozen=True)
class Strongest:
    """For each of a layer's K channels, the largest activations in different images.

    Largest first; all arrays are (K, count), `pixels` (K, count, 2). Where there were fewer images,
    or equal ones, the first in the data set's order come first.
    """

    values: np.ndarray
    indices: np.ndarray  # of the images in the data set
    pixels: np.ndarray  # row and column in the layer's output; zeros for a dense layer


def strongest(
    model: TrainedModel,
    loader: Loader,
    layers: Iterable[str] | None = None,
    count: int = 9,
    images: np.ndarray | None = None,
    on_batch: Callable[[int], object] = lambda images: None,
) -> dict[str, Strongest]:
    """The `count` strongest images of every channel of `layers` (None: of all), in one pass.

    `images` are indices in the loader's data set (None: all of it); those that cannot be read are
    left out. `on_batch` is called with the number of images of each batch, and may raise.
    """
    if count < 1:
        raise InputError(f"count is {count}: it must be at least 1")
    names = [name for name, _ in model.network.layers]
    wanted = names if layers is None else require_layers(model, layers)
    order = np.arange(len(loader.dataset)) if images is None else np.asarray(images, np.int64)
    found: dict[str, Strongest] = {}
    for batch in loader.batches(order, _BATCH):
        run = forward(model, batch.images, until=wanted[-1])
        for name, y in run.outputs():
            if name in wanted:
                new = peaks(host(run.b, y), batch.indices)
                found[name] = best(found.get(name), new, count)
        on_batch(len(batch))
    if not found:
        raise InputError(f"no image of {loader.dataset.name} can be read")
    return found


def peaks(y: np.ndarray, indices: np.ndarray) -> Strongest:
    """The peak of each channel in each image of an output (N, ..., K): arrays (K, N)."""
    count, channels = len(y), y.shape[-1]
    width = y.shape[2] if y.ndim == 4 else 1
    flat = y.reshape(count, -1, channels)  # (N, P·Q, K)
    at = flat.argmax(axis=1)  # (N, K)
    values = np.take_along_axis(flat, at[:, None], axis=1)[:, 0]
    pixels = np.stack([at // width, at % width], axis=-1)  # (N, K, 2)
    return Strongest(
        values.T.copy(),
        np.broadcast_to(indices, (channels, count)).copy(),
        pixels.transpose(1, 0, 2).copy(),
    )


def best(old: Strongest | None, new: Strongest, count: int) -> Strongest:
    """The `count` strongest of both."""
    if old is not None:
        new = Strongest(
            np.concatenate([old.values, new.values], axis=1),
            np.concatenate([old.indices, new.indices], axis=1),
            np.concatenate([old.pixels, new.pixels], axis=1),
        )
    order = np.argsort(-new.values, axis=1, kind="stable")[:, :count]
    return Strongest(
        np.take_along_axis(new.values, order, axis=1),
        np.take_along_axis(new.indices, order, axis=1),
        np.take_along_axis(new.pixels, order[..., None], axis=1),
    )
