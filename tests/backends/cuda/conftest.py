import pytest

from minialex import backends


@pytest.fixture(scope="session")
def b():
    """The CUDA backend, on the stand-in if there is no GPU."""
    return backends.get("cupy")
