"""The NumPy backend: short and readable, the baseline for every other backend.

Requires nothing but NumPy. Ops without a file here are the generic backend's.
"""

import os
from typing import Any, Self

import numpy as xp

from minialex.backends.numpy.convolution import NumpyConvolution
from minialex.backends.numpy.crops import NumpyCrops
from minialex.backends.numpy.sgd import NumpySGD
from minialex.utils.cores import usable_cores
from minialex.utils.threads import choose


class NumpyBackend(NumpyConvolution, NumpyCrops, NumpySGD):
    """NumPy arrays on the CPU; all its devices share the same memory."""

    def __init__(self, device: Any = None):
        super().__init__("numpy", xp)

    def with_threads(self, threads: int | None) -> Self:
        if threads is not None:
            from threadpoolctl import ThreadpoolController

            most = max(usable_cores(), os.cpu_count() or 1)
            ThreadpoolController().limit(limits=choose(threads, most))
        return self

    def with_fixed_sums(self) -> Self:
        return self.with_threads(1)  # BLAS cuts its products by the number of threads
