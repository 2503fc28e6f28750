"""The generic backend over a library that has the array API standard and nothing else."""

import array_api_strict
import numpy as np

from minialex.backends import GenericBackend

ELSEWHERE = array_api_strict.Device("device1")  # NumPy cannot read it, arrays do not mix with it


class Strict(GenericBackend):
    """On the library's default device, or on another one as a GPU would be."""

    def __init__(self, device=None):
        super().__init__("strict", array_api_strict, device)

    def to_numpy(self, x):
        return np.asarray(x.to_device(array_api_strict.Device("CPU_DEVICE")))
