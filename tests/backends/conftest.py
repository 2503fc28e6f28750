"""The backends under test; a new one is a line here."""

import array_api_strict
import numpy as np
import pytest

from minialex import backends
from minialex.backends import Backend


class Strict(Backend):
    """The generic ops over a library that has the standard and nothing else."""

    def __init__(self):
        super().__init__("strict", array_api_strict)

    def to_numpy(self, x):
        return np.asarray(x._array)


_MAKE = {"numpy": lambda: backends.get("numpy"), "strict": Strict}


@pytest.fixture(scope="session", params=sorted(_MAKE))
def b(request):
    """Each backend in turn."""
    return _MAKE[request.param]()
