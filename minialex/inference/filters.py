"""The first layer's kernels by tower, and how colourful each tower is (paper, figure 3).

In every run of the paper's authors, one GPU's kernels became largely colour-agnostic and the
other's largely colour-specific. `colour_share` measures that for each kernel.
"""

import math
from dataclasses import dataclass

import numpy as np

from minialex.errors import InputError
from minialex.inference.classifier import Classifier
from minialex.layers import Conv2D


@dataclass(frozen=True)
class Tower:
    """Colour shares of one tower's kernels: median and quartiles."""

    number: int
    kernels: int
    median: float
    lower_quartile: float
    upper_quartile: float


@dataclass(frozen=True)
class Colours:
    """Colour shares of all kernels, in the order of channels, and their statistics by tower.

    `separation` is the probability that a random kernel of tower 2 is more colourful than one of
    tower 1: 0.5 if the towers do not differ, near 0 or 1 if one has all the colour; None unless
    there are two towers.
    """

    shares: tuple[float, ...]
    towers: tuple[Tower, ...]
    separation: float | None


def separation_by_chance(kernels: int) -> float:
    """The mean of a separation or its complement, the larger, where two towers do not differ.

    For so many kernels in each tower, whose order by colour is then random; the normal
    approximation of the Mann-Whitney statistic.
    """
    deviation = math.sqrt((2 * kernels + 1) / 12) / kernels
    return 0.5 + deviation * math.sqrt(2 / math.pi)


def first_kernels(classifier: Classifier) -> np.ndarray:
    """The first convolution's weights on the host: (R, S, 3, K); InputError if not over RGB."""
    for name, layer in classifier.model.network.layers:
        if isinstance(layer, Conv2D):
            found = np.asarray(classifier.devices.to_numpy(classifier.params[name]["weight"]))
            if found.shape[2] != 3:
                raise InputError(
                    f"the first kernels of this {classifier.model.name} have {found.shape[2]} "
                    "input channels, not red, green and blue: they cannot be shown in colour"
                )
            return found
    raise InputError(f"{classifier.model.name} has no convolution, so there are no kernels to show")


def tower_count(classifier: Classifier) -> int:
    """The number of towers: the most groups that a convolution of the network has."""
    layers = [layer for _, layer in classifier.model.network.layers]
    return max((layer.groups for layer in layers if isinstance(layer, Conv2D)), default=1)


def colour_share(kernels: np.ndarray) -> np.ndarray:
    """The fraction of each kernel's energy that is colour: (R, S, 3, K) -> (K,) in 0 … 1.

    The kernel's mean over all its weights is subtracted first. Of the remaining sum of squares,
    this is the part that differs between R, G and B: 0 for a black-and-white kernel, 1 for one of
    constant brightness, 2/3 for independent noise in the three channels.
    """
    w = np.asarray(kernels, np.float64)
    w = w - w.mean(axis=(0, 1, 2))
    energy = np.sum(w**2, axis=(0, 1, 2))
    grey = w.shape[2] * np.sum(w.mean(axis=2) ** 2, axis=(0, 1))
    colour = 1 - np.divide(grey, energy, out=np.ones_like(grey), where=energy > 0)
    return np.clip(colour, 0, 1)


def colours(classifier: Classifier, towers: int | None = None) -> Colours:
    """`colour_share` of the first layer's kernels by tower.

    `towers` (None: the network's own) splits the channels into another number of groups, to compare
    the halves of a single-tower network with the towers of another.
    """
    shares = colour_share(first_kernels(classifier))
    count = tower_count(classifier) if towers is None else towers
    if not 1 <= count <= len(shares) or len(shares) % count:
        raise InputError(f"{len(shares)} kernels cannot be divided evenly into {count} towers")
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
