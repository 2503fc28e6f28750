"""Stateless random numbers: a function of (seed, purpose, step, index).

Philox4x32-10 (Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011)
turns a 128-bit counter and a 64-bit key into 128 random bits. The key is the seed and the counter
says what the number is for:

    counter = (block, index, step, purpose)

`block` counts the groups of four 32-bit words that belong to one `index` (an image of the batch or
a position in an epoch); `step` is a training step or an epoch. Every number can therefore be
computed independently, on any device, in any order, and a resumed run needs no generator state.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

_MULTIPLIER_0, _MULTIPLIER_1 = 0xD2511F53, 0xCD9E8D57
_WEYL_0, _WEYL_1 = 0x9E3779B9, 0xBB67AE85
_LOW = 0xFFFFFFFF


class Stream(IntEnum):
    """The fourth counter word: two purposes never share a random number."""

    SHUFFLE = 1
    SPLIT = 2
    CROP = 3
    COLOUR = 4
    SHAPES = 5
    TEST = 6
    WARP = 7
    LIGHT = 8
    ERASE = 9
    MIXUP = 10
    OWN = 11  # a user-defined augmentation
    BASELINES = 0x40
    VIDEO = 0x41
    INIT = 0x100  # + the layer's position in its network
    DROPOUT = 0x10000  # + the layer's position in its network


def philox4x32(c0: Any, c1: Any, c2: Any, c3: Any, seed: int) -> tuple[np.ndarray, ...]:
    """Ten rounds of Philox on counters of any broadcastable shape: four uint32 arrays."""
    c0, c1, c2, c3 = np.broadcast_arrays(*(np.asarray(c, np.uint64) for c in (c0, c1, c2, c3)))
    k0, k1 = seed & _LOW, (seed >> 32) & _LOW
    for _ in range(10):
        p0 = c0 * np.uint64(_MULTIPLIER_0)
        p1 = c2 * np.uint64(_MULTIPLIER_1)
        c0 = (p1 >> np.uint64(32)) ^ c1 ^ np.uint64(k0)
        c2 = (p0 >> np.uint64(32)) ^ c3 ^ np.uint64(k1)
        c1, c3 = p1 & np.uint64(_LOW), p0 & np.uint64(_LOW)
        k0, k1 = (k0 + _WEYL_0) & _LOW, (k1 + _WEYL_1) & _LOW
    return tuple(c.astype(np.uint32) for c in (c0, c1, c2, c3))


def words(
    seed: int, purpose: int, step: int, indices: ArrayLike, count: int, first: int = 0
) -> np.ndarray:
    """`count` random uint32 words for each of `indices`, starting at word `first`: (len, count)."""
    indices = np.asarray(indices, np.uint64).reshape(-1, 1)
    start, stop = first // 4, -(-(first + count) // 4)
    blocks = np.arange(start, stop, dtype=np.uint64)
    four = np.stack(philox4x32(blocks, indices, step, int(purpose), seed), axis=-1)
    row = four.reshape(len(indices), 4 * len(blocks))
    return row[:, first - 4 * start : first - 4 * start + count]


def integers(word: np.ndarray, bound: ArrayLike) -> np.ndarray:
    """Map random words to integers 0 … bound-1 (int64): the high half of a 64-bit product."""
    return ((word.astype(np.uint64) * np.asarray(bound, np.uint64)) >> np.uint64(32)).astype(
        np.int64
    )


def uniform(word: np.ndarray) -> np.ndarray:
    """Map random words to float64 in the open interval (0, 1)."""
    return (word.astype(np.float64) + 0.5) * 2.0**-32


def normal(word: np.ndarray) -> np.ndarray:
    """Map random words to as many float64 from N(0, 1) (Box-Muller); the last axis is even."""
    radius = np.sqrt(-2.0 * np.log(uniform(word[..., 0::2])))
    angle = 2.0 * np.pi * uniform(word[..., 1::2])
    pairs = np.stack((radius * np.cos(angle), radius * np.sin(angle)), axis=-1)
    return pairs.reshape(word.shape)


def normal_array(
    seed: int, purpose: int, step: int, shape: tuple[int, ...], std: float, dtype: DTypeLike
) -> np.ndarray:
    """An array drawn from N(0, std²), filled in cache-sized blocks: 61 million take seconds."""
    flat = np.empty(int(np.prod(shape)), dtype)
    block = 1 << 16
    for start in range(0, flat.size, block):
        count = min(block, flat.size - start)
        drawn = normal(words(seed, purpose, step, [0], count + count % 2, first=start))
        flat[start : start + count] = drawn[0, :count] * std
    return flat.reshape(shape)


def permutation(seed: int, purpose: int, step: int, n: int) -> np.ndarray:
    """A permutation of 0 … n-1: the argsort of n random 64-bit keys."""
    pair = words(seed, purpose, step, [0], 2 * n)[0].astype(np.uint64)
    return np.argsort(pair[0::2] << np.uint64(32) | pair[1::2], kind="stable")


@dataclass(frozen=True)
class InitialDraw:
    """The initial values of one layer: a function of the seed and the layer's position."""

    seed: int
    layer: int = 0

    def normal(self, shape: tuple[int, ...], std: float, dtype: str) -> np.ndarray:
        """Weights from N(0, std²), on the host."""
        purpose = Stream.INIT + self.layer
        return normal_array(self.seed, purpose, 0, shape, std, np.dtype(dtype))

    def constant(self, shape: tuple[int, ...], value: float, dtype: str) -> np.ndarray:
        """A constant array, on the host: initial biases."""
        return np.full(shape, value, np.dtype(dtype))
