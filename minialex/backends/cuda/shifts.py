"""Tiling of convolutions by conv_tma.cu: how the pixels of all images follow each other.

Letters: N batch, H W input, C channels in, K channels out, R S kernel, P Q output, G groups.
"""

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from minialex.backends.base import Pair
from minialex.backends.cuda import implicit, kernels

PIXELS, THREADS = 256, 288  # of a tile, and of a block, in conv_tma.cu
_PIXEL_BYTES = 128  # of 64 channels, in shared memory
_WEIGHT_STAGES = 4
# bytes of shared memory of a block on compute capability 9.0, without those of the barriers
_SHARED = 227 * 1024 - 256
_BOX = 256  # pixels of a row that can be copied at once

# fmt: off
_NAMES = (
    "N", "H", "W", "R", "S", "top", "left", "groups", "in", "out", "all", "pitch", "rows", "height",
    "bytes",
)
# fmt: on
_STRUCT = np.dtype([(name, np.int32) for name in _NAMES])


@dataclass(frozen=True)
class Shifts:
    """A convolution with a stride of 1, or an input gradient, which is one of dy."""

    source: tuple[int, int, int, int]  # N, height, width and channels in memory
    output: tuple[int, int, int, int]
    kernel: Pair
    corner: Pair  # rows and columns of zeros before an image; negative: left out
    groups: int
    input_gradient: bool

    @property
    def inside(self) -> int:
        """Channels of a group that are summed over."""
        return self.source[3] // self.groups

    @property
    def outside(self) -> int:
        """Output channels of a group."""
        return self.output[3] // self.groups

    @cached_property
    def rows(self) -> int:
        """Rows of an image, with those of padding that it does not share with the next image."""
        return self._extent(0)

    @cached_property
    def pitch(self) -> int:
        """Pixels of a row, with those of padding that it does not share with the next row."""
        return self._extent(1)

    def _extent(self, axis: int) -> int:
        source, output = self.source[1 + axis], self.output[1 + axis]
        reach, front = output + self.kernel[axis] - 1, self.corner[axis]
        if front < 0:
            return reach
        return min(reach, max(source + front, reach - front, output))

    @property
    def pixels(self) -> int:
        """From the first output pixel to the last, with the padding between them."""
        n, h, w, _ = self.output
        return ((n - 1) * self.rows + h - 1) * self.pitch + w

    @property
    def height(self) -> int:
        """The rows that a tile may need."""
        needed = PIXELS + (self.kernel[0] - 1) * self.pitch + self.kernel[1] - 1
        return -(-(self.pitch - 1 + needed) // self.pitch)

    @property
    def bytes(self) -> int:
        """Shared memory for a tile's pixels, a multiple of 1024."""
        size = self.height * self.pitch * _PIXEL_BYTES
        return size + -size % 1024

    @property
    def tile(self) -> int:
        """Columns of a tile."""
        return implicit.tile(self.outside, narrow=self.input_gradient)

    @property
    def slices(self) -> int:
        """16 channels are multiplied at once, as many times in a step; 0: not possible."""
        return next((count for count in kernels.SLICES if self.inside % (16 * count) == 0), 0)

    @property
    def tiles(self) -> int:
        """Tiles of the whole convolution."""
        return -(-self.pixels // PIXELS) * -(-self.outside // self.tile) * self.groups

    @property
    def weight_bytes(self) -> int:
        """Shared memory for the weights of a step."""
        return self.tile * (_PIXEL_BYTES if self.input_gradient else self.slices * 32)

    @property
    def shared(self) -> int:
        """Bytes of shared memory of a block: two buffers of pixels, and weights of some steps."""
        return 2 * self.bytes + _WEIGHT_STAGES * self.weight_bytes + 1024

    @property
    def copied(self) -> int:
        """Bytes that all tiles copy to shared memory; those outside the arrays are counted too."""
        slabs = self.inside // (16 * self.slices)
        pixels = self.height * self.pitch * _PIXEL_BYTES
        return self.tiles * slabs * (pixels + prod(self.kernel) * self.weight_bytes)

    @property
    def possible(self) -> bool:
        """Whether conv_tma.cu can compute it."""
        divides = self.slices and self.outside % 8 == 0
        return bool(divides) and self.pitch <= _BOX and self.shared <= _SHARED

    def as_struct(self) -> np.ndarray:
        """The structure `Shifts` of conv_tma.cu."""
        n, h, w, channels = self.output
        sizes = (n, h, w, *self.kernel, *self.corner, self.groups, self.inside, self.outside)
        more = (channels, self.pitch, self.rows, self.height, self.bytes)
        return np.array([(*sizes, *more)], _STRUCT)

    def boxes(self) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """The shapes of the image and of the weights, and of their boxes, innermost first."""
        n, h, w, c = self.source
        taps = prod(self.kernel)
        image = (c, w, h, n), (_PIXEL_BYTES // 2, self.pitch, 1, 1)
        if self.input_gradient:
            return [image, ((c, taps * self.outside), (_PIXEL_BYTES // 2, self.tile))]
        strip = 32 if self.tile % 64 else 64
        return [image, ((self.output[3], taps * self.inside), (strip, 16 * self.slices))]

    def launch_shape(self, multiprocessors: int) -> dict[str, Any]:
        """Grid, block, shared memory and compile options."""
        return {
            "grid": (min(self.tiles, multiprocessors),),
            "block": (THREADS,),
            "shared": self.shared,
            "compiled_for": kernels.tma_options(self.tile, self.slices, self.input_gradient),
        }


def forward(sizes: implicit.Convolution) -> Shifts | None:
    """A convolution's, or None if conv_tma.cu cannot compute it."""
    if sizes.stride != (1, 1) or sizes.cx != sizes.cg:
        return None
    output = (sizes.image[0], *sizes.output, sizes.channels)
    found = Shifts(sizes.image, output, sizes.kernel, sizes.corner, sizes.groups, False)
    return found if found.possible else None


def input_gradient(sizes: implicit.Convolution) -> Shifts | None:
    """The same of its input gradient."""
    if sizes.stride != (1, 1):
        return None
    source = (sizes.image[0], *sizes.output, sizes.channels)
    r, s = sizes.kernel
    corner = (r - 1 - sizes.corner[0], s - 1 - sizes.corner[1])
    found = Shifts(source, sizes.image, sizes.kernel, corner, sizes.groups, True)
    return found if found.possible else None
