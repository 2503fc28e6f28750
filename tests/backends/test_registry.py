"""Backends by name: built in, registered, from a package, misspelt."""

from importlib.metadata import EntryPoint

import pytest
from helpers.standard import Strict

from minialex import backends
from minialex.errors import InputError


def test_auto_chooses_a_backend_that_runs_here():
    assert backends.get("auto").name in backends.available()


def test_a_registered_backend_is_found(monkeypatch):
    monkeypatch.setattr(backends, "_registered", {})
    backends.register("mine", Strict)
    assert type(backends.get("mine")) is Strict
    assert "mine" in backends.available()


def test_an_installed_package_can_provide_a_backend(monkeypatch):
    point = EntryPoint(
        "theirs", "minialex.backends.numpy.backend:NumpyBackend", "minialex.backends"
    )

    def entry_points(group, name=None):
        return [point] if name in (None, "theirs") else []

    monkeypatch.setattr(backends, "entry_points", entry_points)
    assert "theirs" in backends.available()
    assert backends.get("theirs").name == "numpy"


def test_a_misspelt_name_gives_a_one_sentence_error():
    with pytest.raises(InputError, match="did you mean 'numpy'"):
        backends.get("numpi")
    with pytest.raises(InputError, match="is taken"):
        backends.register("numpy", lambda device: None)


def test_exact_is_a_precision_of_every_backend_on_the_host():
    for name in ("numpy", "numba"):
        b = backends.get(name, precision="exact", threads=1 if name == "numba" else None)
        assert b.precision.name == "exact"
        assert b.with_precision("fp32").precision.name == "fp32"


@pytest.mark.standin
def test_cuda_computes_exactly_and_has_no_int8():
    exact, full = (backends.get("cupy", precision=name) for name in ("exact", "fp32"))
    assert exact.convolution_by == full.convolution_by == "im2col"  # "implicit" rounds to tf32
    with pytest.raises(InputError, match=r'"cupy" does not compute in int8.*backend="numba"'):
        backends.get("cupy", precision="int8")
