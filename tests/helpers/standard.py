"""The generic backend over a library with only the array API standard."""

import numpy as np
import pytest

from minialex.backends import GenericBackend

ELSEWHERE = "device1"  # of the library: NumPy cannot read its arrays or mix with them


class Strict(GenericBackend):
    """On the library's default device, or on another one, like a GPU.

    Skips the test if the library is not installed.
    """

    def __init__(self, device=None):
        library = pytest.importorskip("array_api_strict")
        super().__init__("strict", library, device and library.Device(device))

    def to_numpy(self, x):
        return np.asarray(x.to_device(self.xp.Device("CPU_DEVICE")))
