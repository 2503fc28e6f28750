"""Tiling of convolutions for the kernels of tensor.cuh: tiles, parts, and widths of copies.

Letters: N batch, H W input, C channels in, K channels out, R S kernel, P Q output, G groups.
"""

from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from minialex.backends.base import Pads, Pair, output_shape
from minialex.backends.cuda import kernels

ROWS, THREADS = 128, 128  # TILE_M and THREADS in tensor.cuh
_STAGES = 4  # stages of tiles in shared memory, in wgmma.cuh
_BLOCKS = 528  # a weight gradient's blocks at most: two on each of 132 multiprocessors, twice
_STEPS = 8  # a weight gradient is split so that each part has at least this many pixel steps

# fmt: off
_NAMES = (
    "N", "H", "W", "C", "R", "S", "P", "Q", "K", "stride_h", "stride_w", "top", "left", "groups",
    "cg", "kg", "cx",
)
# fmt: on
_STRUCT = np.dtype([(name, np.int32) for name in _NAMES])


@dataclass(frozen=True)
class Convolution:
    """The sizes of one convolution; `cx` channels of x belong to a group, `cg` of the weights."""

    image: tuple[int, int, int, int]  # N H W C
    kernel: Pair
    output: Pair
    channels: int  # K
    stride: Pair
    corner: Pair  # top and left padding
    groups: int
    cg: int
    cx: int

    @classmethod
    def of(
        cls, image: Any, kernel: Pair, channels: int, stride: Pair, pads: Pads, groups: int
    ) -> "Convolution":
        """The sizes for x of shape `image` in its memory layout."""
        output = output_shape(image[1:3], kernel, stride, pads)
        cg = image[3] // groups
        corner = (pads[0][0], pads[1][0])
        return cls(tuple(image), kernel, output, channels, stride, corner, groups, cg, cg)

    def with_channels(self, cx: int) -> "Convolution":
        """The same if x has extra channels of zeros, cx in all."""
        return replace(self, image=(*self.image[:3], cx), cx=cx)

    @property
    def kg(self) -> int:
        """Output channels of a group."""
        return self.channels // self.groups

    @property
    def rows(self) -> int:
        """Numbers in a group's window, as they are copied: the rows of a weight gradient."""
        return prod(self.kernel) * self.cx

    @property
    def pixels(self) -> int:
        """Pixels of the output."""
        return self.image[0] * prod(self.output)

    def as_struct(self) -> np.ndarray:
        """The structure `Sizes` of tensor.cuh."""
        n, h, w, c = self.image
        # fmt: off
        return np.array(
            [(n, h, w, c, *self.kernel, *self.output, self.channels, *self.stride, *self.corner,
              self.groups, self.cg, self.kg, self.cx)], _STRUCT,
        )
        # fmt: on

    def channels_to_copy(self, itemsize: int) -> int:
        """How many channels x should have: more than it has, if 8 or 16 bytes can then be copied
        at once."""
        if self.groups > 1 or self.cg % 4 == 0 or self.kg % (16 // itemsize):
            return self.image[3]
        return self.cg + -self.cg % 4

    def as_copied(self, itemsize: int) -> "Convolution":
        """As the kernels compute it, in blocks or with more channels, if that is faster."""
        pads = (self._pads(0), self._pads(1))
        geometry = (self.stride, pads, self.groups)
        if found := blocks(self.image, self.kernel, self.channels, *geometry, itemsize):
            return found
        if self.groups > 1:
            return self
        return self.with_channels(self.channels_to_copy(itemsize))

    def _pads(self, axis: int) -> Pair:
        """The padding of one direction; that at the end is negative if windows do not reach it."""
        covered = (self.output[axis] - 1) * self.stride[axis] + self.kernel[axis]
        return self.corner[axis], covered - self.corner[axis] - self.image[1 + axis]

    def vector(self, itemsize: int) -> int:
        """Numbers per copy where x and the output channels are read."""
        most = 16 // itemsize
        if self.kg % most:
            return 1
        return next(v for v in (most, 4, 1) if self.cx % v == 0)

    def vector_of_outputs(self, itemsize: int) -> int:
        """Numbers per copy where only output channels are read."""
        return next(v for v in (16 // itemsize, 4, 1) if self.kg % v == 0)

    def parts(self, itemsize: int) -> tuple[int, int]:
        """The number of parts of a weight gradient's pixels, and the pixels in each.

        They depend only on the shape, so that the sums never depend on the card.
        """
        tiles = -(-self.rows // ROWS) * columns(self.kg) * self.groups
        depth = 64 // itemsize
        # no more blocks: a few would run alone, after all others
        wanted = max(1, min(_BLOCKS // tiles, -(-self.pixels // (_STEPS * depth))))
        share = -(-self.pixels // wanted)
        share += -share % depth
        return -(-self.pixels // share), share


def blocks(
    image: Any, kernel: Pair, channels: int, stride: Pair, pads: Pads, groups: int, itemsize: int
) -> Convolution | None:
    """The same convolution on blocks of stride x stride pixels, if they can be copied faster.

    See blocks.cu. The blocks' images have as many rows and columns as the windows cover.
    """
    side, cg, at_once = stride[0], image[3] // groups, 16 // itemsize
    cx = side * side * cg
    fits = groups == 1 and side > 1 and stride[1] == side
    if not fits or cg % at_once == 0 or cx % at_once or channels % at_once:
        return None
    reach = (-(-kernel[0] // side), -(-kernel[1] // side))
    if prod(reach) * cx > prod(kernel) * (cg + -cg % 4):  # more products than with four channels
        return None
    output = output_shape(image[1:3], kernel, stride, pads)
    n, shape = image[0], (output[0] + reach[0] - 1, output[1] + reach[1] - 1)
    return Convolution((n, *shape, cx), reach, output, channels, (1, 1), (0, 0), 1, cx, cx)


def tile(count: int, narrow: bool = False) -> int:
    """The width of tiles for `count` columns: the fewest unused columns, then the widest.

    With `narrow`, up to 48 columns are one tile of 48.
    """
    if narrow and count <= kernels.NARROW:
        return kernels.NARROW
    return min(kernels.TILES, key=lambda width: (-(-count // width) * width, -width))


def columns(count: int) -> int:
    """The number of tiles side by side."""
    return -(-count // tile(count))


def launch_shape(
    rows: int,
    count: int,
    groups: int,
    vector: int,
    arrays: Any,
    parts: int = 1,
    warpgroups: bool = False,
    divides: bool = False,
    narrow: bool = False,
) -> dict[str, Any]:
    """Grid, block and compile options for products of `rows` x `count` numbers per group.

    The kernel copies `vector` numbers of `arrays` at once, if all are aligned for that. It
    multiplies like wgmma.cuh with `warpgroups`, else like mma.cuh. `divides`: see `tile_options`;
    `narrow`: see `tile`.
    """
    if any(array.data.ptr % 16 for array in arrays):
        vector = 1
    blocks, width = -(-rows // ROWS) * columns(count) * groups * parts, tile(count, narrow)
    how: dict[str, Any] = {
        "grid": (blocks,),
        "block": (THREADS,),
        "compiled_for": kernels.tile_options(width, vector, divides),
    }
    if warpgroups:
        how["compiled_for"] += kernels.WARPGROUPS
        # a row of a stage's tiles has 64 bytes, and the first stage starts at a multiple of 1024
        how["shared"] = _STAGES * (ROWS + width) * 64 + 1024
    return how


def pays(convolution: Convolution) -> bool:
    """Whether to use the implicit product if the card can: always, until measured otherwise."""
    return True
