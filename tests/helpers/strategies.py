"""Hypothesis strategies that draw one whole consistent problem each."""

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from minialex.testing.gradients import grid

DTYPES = ("float64", "float32")
LAYOUTS = ("contiguous", "transposed", "strided")


def laid_out(x: np.ndarray, layout: str) -> np.ndarray:
    """The same numbers in non-contiguous memory."""
    if layout == "transposed":
        return np.ascontiguousarray(x.T).T
    if layout == "strided":
        wide = np.full((*x.shape[:-1], 2 * x.shape[-1]), np.nan, x.dtype)
        wide[..., ::2] = x
        return wide[..., ::2]
    return x


class Problem:
    """Base of all problems: arrays of one dtype in one memory layout."""

    shape: tuple[int, int, int, int]  # N H W C
    dtype: str
    layout: str
    seed: int

    def x(self) -> np.ndarray:
        return self.laid_out(self.shape, 0)

    def laid_out(self, shape, which: int) -> np.ndarray:
        """Array number `which` of this problem."""
        return laid_out(grid(shape, self.seed + which).astype(self.dtype), self.layout)


@dataclass(frozen=True)
class Windows(Problem):
    """A window moving over images: what convolution and pooling share."""

    shape: tuple[int, int, int, int]  # N H W C
    window: tuple[int, int]
    stride: tuple[int, int]
    pads: tuple[tuple[int, int], tuple[int, int]]
    groups: int
    channels: int  # K
    dtype: str
    layout: str
    seed: int


@st.composite
def windows(draw, pooling: bool = False, three: bool = False):
    """H differs from W, strides exceed windows, padding exceeds half the kernel, batch of one.

    With `three`, windows are 3 x 3, on larger images.
    """
    window = (3, 3) if three else (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    strides = st.sampled_from([2, 1, 3]) if three else st.integers(1, 5)
    stride = (draw(strides), draw(strides))
    most = [w - 1 if pooling else w + 1 for w in window]
    pads = tuple((draw(st.integers(0, m)), draw(st.integers(0, m))) for m in most)
    low = [max(1, w - sum(p)) for w, p in zip(window, pads, strict=True)]
    more = 17 if three else 5
    height, width = (draw(st.integers(least, least + more)) for least in low)
    groups = 1 if pooling else draw(st.sampled_from([1, 2, 3]))
    channels = groups * draw(st.integers(1, 3))
    return Windows(
        (draw(st.integers(1, 3)), height, width, channels),
        window,
        stride,
        pads,
        groups,
        groups * draw(st.integers(1, 3)),
        draw(st.sampled_from(DTYPES)),
        draw(st.sampled_from(LAYOUTS)),
        draw(st.integers(0, 2**16)),
    )


@dataclass(frozen=True)
class Channels(Problem):
    """Pixels with some channels, of images or of dense layers."""

    shape: tuple[int, ...]
    dtype: str
    layout: str
    seed: int

    def channels(self, which: int) -> np.ndarray:
        """One number for each channel."""
        return self.laid_out(self.shape[-1:], which)


@st.composite
def channels(draw):
    shape = draw(st.sampled_from([(3, 4, 5, 2), (2, 1, 7, 6), (1, 1, 1, 3), (9, 5), (1, 4)]))
    dtype, layout = draw(st.sampled_from(DTYPES)), draw(st.sampled_from(LAYOUTS))
    return Channels(shape, dtype, layout, draw(st.integers(0, 2**16)))


@dataclass(frozen=True)
class Norm(Problem):
    """Response normalisation with a strength at which every term matters."""

    shape: tuple[int, int, int, int]
    n: int
    k: float
    alpha: float
    beta: float
    groups: int
    dtype: str
    layout: str
    seed: int


@st.composite
def norms(draw, paper: bool = False):
    """n from 1 to 7, beyond the number of channels too; α around 1; β the paper's and others.

    With `paper`, n and β are the paper's, and channels are whole vectors of a processor.
    """
    groups = draw(st.sampled_from([1, 2]))
    channels = st.sampled_from([4, 8, 16, 24, 32, 48]) if paper else st.integers(1, 5)
    shape = (
        draw(st.integers(1, 2)),
        draw(st.integers(1, 5)),
        draw(st.integers(1, 5)),
        groups * draw(channels),
    )
    return Norm(
        shape,
        5 if paper else draw(st.sampled_from([1, 3, 5, 7])),
        draw(st.sampled_from([1.0, 2.0])),
        draw(st.sampled_from([1.0, 0.3])),
        0.75 if paper else draw(st.sampled_from([0.75, 0.5, 1.0])),
        groups,
        draw(st.sampled_from(DTYPES)),
        draw(st.sampled_from(LAYOUTS)),
        draw(st.integers(0, 2**16)),
    )
