"""The generic backend over a library with only the array API standard."""

import array_api_strict
import numpy as np

from minialex.backends import GenericBackend

ELSEWHERE = array_api_strict.Device("device1")  # NumPy cannot read its arrays or mix with them


class Strict(GenericBackend):
    """On the library's default device, or on another one, like a GPU."""

    def __init__(self, device=None):
        super().__init__("strict", array_api_strict, device)

    def to_numpy(self, x):
        return np.asarray(x.to_device(array_api_strict.Device("CPU_DEVICE")))
