"""The first layer's kernels by tower, and how much colour each tower has (paper, figure 3).

On the paper's two GPUs one tower's kernels came out largely without colour and the other's largely
with it, in every run. `colour_share` measures that, kernel by kernel.
"""

from dataclasses import dataclass

import numpy as np

from minialex.errors import InputError
from minialex.inference.classifier import Classifier
from minialex.layers import Conv2D


@dataclass(frozen=True)
class Tower:
    """The colour shares of one tower's kernels: the median, and where the middle half lies."""

    number: int
    kernels: int
    median: float
    lower_quartile: float
    upper_quartile: float


@dataclass(frozen=True)
class Colours:
    """Shares of all kernels in map order, and what they come to in each tower.

    `separation` is the chance that a kernel of tower 2 has more colour than one of tower 1 (None
    without exactly two towers): 0.5 if the towers are alike, near 0 or 1 if each has its own part.
    """

    shares: tuple[float, ...]
    towers: tuple[Tower, ...]
    separation: float | None


def first_kernels(classifier: Classifier) -> np.ndarray:
    """The first convolution's weights on the host: (R, S, 3, K)."""
    for name, layer in classifier.model.network.layers:
        if isinstance(layer, Conv2D):
            found = np.asarray(classifier.backend.to_numpy(classifier.params[name]["weight"]))
            if found.shape[2] != 3:
                raise InputError(
                    f"the first kernels of this {classifier.model.name} look at {found.shape[2]} "
                    "channels, not at red, green and blue: they have no colours to be shown in"
                )
            return found
    raise InputError(f"{classifier.model.name} has no convolution, hence no kernels to look at")


def tower_count(classifier: Classifier) -> int:
    """1 or 2 ...: the most groups that a convolution of the network has."""
    layers = [layer for _, layer in classifier.model.network.layers]
    return max((layer.groups for layer in layers if isinstance(layer, Conv2D)), default=1)


def colour_share(kernels: np.ndarray) -> np.ndarray:
    """The share of each kernel's energy off the grey axis, its mean removed: (R, S, 3, K) -> (K,).

    A kernel's mean over all its numbers, which is grey, is taken off; of the sum of squares that is
    left, this is the part that is not the same in R, G and B. 0 is a kernel in black and white, 1
    one whose brightness is the same all over; three channels of independent noise give 2/3.
    """
    w = np.asarray(kernels, np.float64)
    w = w - w.mean(axis=(0, 1, 2))
    energy = np.sum(w**2, axis=(0, 1, 2))
    grey = w.shape[2] * np.sum(w.mean(axis=2) ** 2, axis=(0, 1))
    colour = 1 - np.divide(grey, energy, out=np.ones_like(grey), where=energy > 0)
    return np.clip(colour, 0, 1)


def colours(classifier: Classifier, towers: int | None = None) -> Colours:
    """`colour_share` of the first layer's kernels by tower.

    `towers` (None: the network's own) splits the maps otherwise, to compare the halves of a network
    in one tower with the towers of another.
    """
    shares = colour_share(first_kernels(classifier))
    count = tower_count(classifier) if towers is None else towers
    if not 1 <= count <= len(shares) or len(shares) % count:
        raise InputError(f"{len(shares)} kernels cannot be shared out evenly to {count} towers")
    parts = shares.reshape(count, -1)
    rows = []
    for number, part in enumerate(parts, 1):
        low, middle, high = (float(q) for q in np.quantile(part, (0.25, 0.5, 0.75)))
        rows.append(Tower(number, len(part), middle, low, high))
    separation = None
    if count == 2:
        one, two = parts[0][:, None], parts[1][None]
        separation = float(np.mean((two > one) + 0.5 * (two == one)))
    return Colours(tuple(map(float, shares)), tuple(rows), separation)
