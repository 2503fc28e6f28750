"""The mean image and the principal components of colour of a training set."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minialex.data.dataset import Dataset
from minialex.data.loading.loader import Loader
from minialex.errors import InputError

_BATCH = 64


@dataclass(frozen=True)
class Statistics:
    """Statistics of a training set with values 0 to 255 (paper, sections 2 and 4.1)."""

    mean: np.ndarray  # float32 (S, S, C): C is 3, but 20 for stacks of optical flow
    colour_std: np.ndarray  # float64 (C,), ascending: square roots of the covariance's eigenvalues
    colour_axes: np.ndarray  # float64 (C, C), eigenvectors in columns; rows are channels
    count: int  # images measured


def measure(
    dataset: Dataset,
    size: int,
    *,
    workers: int | None = None,
    progress: Callable[[int], object] | None = None,
    loader: Loader | None = None,
    share: Callable[[int], range] = range,
    gather: Callable[[Any], list] = lambda own: [own],
) -> Statistics:
    """Mean image and principal components of the RGB values of all readable images.

    The sums are exact, in integers, so that the result does not depend on the order or on the
    number of threads. `progress` is called with the number of images just measured; a `loader` of
    the same data keeps what it decodes here for the first epoch. Several processes can measure
    together: `share` gives the ones of so many batches that are this one's, and `gather` the sums
    of all.
    """
    loader = loader or Loader(dataset, size, workers=workers, cache_bytes=0)
    channels = dataset.channels
    total = np.zeros((size, size, channels), np.int64)
    # 2^63 / 255^2 pixels: 2 billion images of 256 x 256
    products = np.zeros((channels, channels), np.int64)
    count, images = 0, len(dataset)
    starts = range(0, images, _BATCH)
    spans = [(starts[i], min(starts[i] + _BATCH, images)) for i in share(len(starts))]
    for batch in loader.batches(np.arange(images), _BATCH, spans=spans):
        total += batch.images.sum(axis=0, dtype=np.int64)
        for image in batch.images:
            products += channel_products(image)
        count += len(batch)
        if progress is not None:
            progress(len(batch))
    total, products, count = (
        sum(parts) for parts in zip(*gather((total, products, count)), strict=True)
    )
    if not count:
        raise InputError(f"{dataset.name!r} has no image to measure")
    return from_sums(total, products, count)


def supplied(dataset: Dataset, size: int) -> Statistics | None:
    """The statistics that came with `dataset`, if they are for images of `size`."""
    found = dataset.statistics
    return found if found is not None and found.mean.shape == (size, size, 3) else None


def channel_products(image: np.ndarray) -> np.ndarray:
    """Σ RᵀR over the pixels of one image: uint8 (S, S, C) -> int64 (C, C), exact."""
    pixels = image.reshape(-1, image.shape[-1]).astype(np.float64)  # (S·S, C)
    return (pixels.T @ pixels).astype(np.int64)  # integers below 2^53


def from_sums(total: np.ndarray, products: np.ndarray, count: int) -> Statistics:
    """Statistics of `count` images from their sum, int64 (S, S, C), and their channel products."""
    pixels = count * total.shape[0] * total.shape[1]
    std, axes = _principal_components(total.sum(axis=(0, 1)), products, pixels)
    return Statistics((total / count).astype(np.float32), std, axes, count)


def _principal_components(
    sums: np.ndarray, products: np.ndarray, pixels: int
) -> tuple[np.ndarray, np.ndarray]:
    """Standard deviations, ascending, and axes in columns, of pixels with these sums."""
    s, p = sums.tolist(), products.tolist()  # Python's integers: n·Σxy - Σx·Σy is exact
    covariance = np.array(
        [
            [(pixels * p[i][j] - s[i] * s[j]) / pixels**2 for j in range(len(s))]
            for i in range(len(s))
        ]
    )
    variances, axes = np.linalg.eigh(covariance)
    largest = axes[np.abs(axes).argmax(axis=0), range(len(s))]
    return np.sqrt(np.maximum(variances, 0)), axes * np.sign(largest)
