"""A model of training on many ranks: what a step takes, from one rank's step and the network.

A rank computes its images in micro-batches. During the last one's backward pass each layer's
gradient becomes ready, last layer first, and its sum begins: every rank sends each other one a part
of it, adds up what it receives, and sends its part of the sum to all. The sums follow each other,
and what is left of them after the backward pass is what a step waits for. A message takes the
latency, and its bytes the time that the bandwidth allows; a rank sends one at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

PREDICTED = (8, 64, 512)  # ranks


@dataclass(frozen=True)
class Network:
    """The connection between ranks: seconds a message, and bytes a second that a rank sends."""

    latency: float
    bandwidth: float


@dataclass(frozen=True)
class Layer:
    """When a layer's gradient is ready, after so many seconds of a step, and its bytes."""

    name: str
    ready: float
    bytes: int


@dataclass(frozen=True)
class Step:
    """One rank's step: seconds until the backward pass has ended, and of the rest, the update."""

    backward: float
    update: float
    layers: Sequence[Layer]


def exchange_seconds(network: Network, bytes: int, ranks: int) -> float:
    """The sum of one array over the ranks."""
    messages, share = 2 * (ranks - 1), 2 * (ranks - 1) / ranks
    return messages * network.latency + share * bytes / network.bandwidth


def step_seconds(step: Step, network: Network, ranks: int) -> float:
    """A step on so many ranks, each of which computes as many images as one alone."""
    if ranks == 1:
        return step.backward + step.update
    summed = 0.0
    for layer in step.layers:
        summed = max(summed, layer.ready) + exchange_seconds(network, layer.bytes, ranks)
    return max(summed, step.backward) + step.update


def fitted(ranks: int, layers: Sequence[int], small: float, large: float) -> Network:
    """The network on which the sums of arrays of `layers` bytes take `large` seconds.

    `small` is the time that they take with hardly any bytes.
    """
    latency = small / (2 * (ranks - 1) * len(layers))
    moved = 2 * (ranks - 1) / ranks * sum(layers)
    return Network(latency, moved / max(large - small, 1e-9))
