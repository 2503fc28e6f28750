"""Backends by name: built in, registered, brought by a package, misspelt."""

from importlib.metadata import EntryPoint

import array_api_strict
import pytest

from minialex import backends
from minialex.backends import Backend
from minialex.errors import InputError


def test_auto_is_a_backend_of_this_machine():
    assert backends.get("auto").name in backends.available()


def test_a_registered_backend_is_found():
    backends.register("mine", lambda device: Backend("mine", array_api_strict, device))
    assert backends.get("mine").name == "mine"
    assert "mine" in backends.available()


def test_an_installed_package_brings_its_own(monkeypatch):
    point = EntryPoint(
        "theirs", "minialex.backends.numpy_backend:NumpyBackend", "minialex.backends"
    )

    def entry_points(group, name=None):
        return [point] if name in (None, "theirs") else []

    monkeypatch.setattr(backends, "entry_points", entry_points)
    assert "theirs" in backends.available()
    assert backends.get("theirs").name == "numpy"


def test_a_misspelt_name_is_one_sentence():
    with pytest.raises(InputError, match="did you mean 'numpy'"):
        backends.get("numpi")
    with pytest.raises(InputError, match="is taken"):
        backends.register("numpy", lambda device: None)
