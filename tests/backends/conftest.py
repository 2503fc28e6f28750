"""The backends under test; to add one, add a line here."""

import pytest
from helpers.standard import ELSEWHERE, Strict

from minialex import backends

MAKE = {
    "cupy": lambda: backends.get("cupy"),
    "numba": lambda: backends.get("numba"),
    "numpy": lambda: backends.get("numpy"),
    "strict": Strict,
    "strict-elsewhere": lambda: Strict(ELSEWHERE),
}


@pytest.fixture(scope="session", params=sorted(MAKE))
def b(request):
    """Each backend in turn."""
    return MAKE[request.param]()
