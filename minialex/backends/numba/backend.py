"""The Numba backend as one class: kernels around BLAS, several images at once.

Requires Numba. Arrays are NumPy's; ops without a kernel here are the NumPy backend's.
"""

from collections.abc import Sequence

from minialex.backends.numba import (
    convolution,
    direct_convolution,
    integer_products,
    winograd,
    winograd_panels,
)
from minialex.backends.numba.activations import NumbaActivations
from minialex.backends.numba.adam import NumbaAdam
from minialex.backends.numba.arrays import NumbaArrays
from minialex.backends.numba.batch_norm import NumbaBatchNorm
from minialex.backends.numba.convolution import NumbaConvolution
from minialex.backends.numba.crops import NumbaCrops
from minialex.backends.numba.dense import NumbaDense
from minialex.backends.numba.dropout import NumbaDropout
from minialex.backends.numba.int8 import NumbaInt8
from minialex.backends.numba.norm_pool import NumbaNormPool
from minialex.backends.numba.sgd import NumbaSGD
from minialex.utils.jit import can_be_cached, is_cached

_SLOW = (
    "this processor has no instructions for products of 8-bit integers (VNNI): int8 is no faster "
    "than fp32 here"
)


class NumbaBackend(
    NumbaArrays,
    NumbaInt8,
    NumbaConvolution,
    NumbaDense,
    NumbaActivations,
    NumbaNormPool,
    NumbaBatchNorm,
    NumbaDropout,
    NumbaCrops,
    NumbaSGD,
    NumbaAdam,
):
    """Compiled kernels on `threads` threads (None: the cores this process may use)."""

    def remarks(self, devices: Sequence) -> list[str]:
        slow = self.precision.int8 and not integer_products.FAST
        return [_SLOW] * slow + self._compilation()

    def _compilation(self) -> list[str]:
        ways = (
            convolution.forward,
            winograd.forward,
            direct_convolution.forward,
            winograd_panels.forward,
        )
        if any(map(is_cached, ways)):
            return []
        if can_be_cached(convolution.forward):
            return ["compiling for this machine (once): about half a minute"]
        return [
            "compiling for this machine: about half a minute at every start, because there is no "
            "writable cache folder (set NUMBA_CACHE_DIR)"
        ]
