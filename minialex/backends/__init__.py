"""The backends: get("numpy"), register("mine", factory), available().

A backend is a factory that takes a device (an index or None) and returns a `Backend`. Other
packages provide theirs through the entry-point group "minialex.backends", one entry per name.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from minialex.backends.base import Backend
from minialex.backends.generic.backend import GenericBackend
from minialex.errors import InputError, unknown

__all__ = ["Backend", "GenericBackend", "available", "get", "register"]

Factory = Callable[..., Backend]

_BUILT_IN = {
    "cupy": "minialex.backends.cuda.backend:CupyBackend",
    "numba": "minialex.backends.numba.backend:NumbaBackend",
    "numpy": "minialex.backends.numpy.backend:NumpyBackend",
}
_registered: dict[str, Factory] = {}


def register(name: str, factory: Factory) -> None:
    """Register `factory(device)` as the backend `name` in this process."""
    if name == "auto" or name in _BUILT_IN:
        raise InputError(f"the backend name {name!r} is taken: register under another name")
    _registered[name] = factory


def available() -> tuple[str, ...]:
    """Names that `get` accepts besides "auto": built-in, registered, and from packages."""
    plugged = {point.name for point in entry_points(group="minialex.backends")}
    return tuple(sorted({*_BUILT_IN, *_registered, *plugged}))


def get(
    name: str | Backend = "auto",
    device: Any = None,
    precision: str = "fp32",
    threads: int | None = None,
) -> Backend:
    """The backend called `name`, on `device`; "auto" is the fastest this machine can run.

    `precision` is "fp32", "exact" (plain sums instead of Winograd tiles), on CUDA "tf32", "bf16" or
    "fp16": the type of products and, for the last two, of activations; parameters, sums and updates
    stay float32. On numba "int8" is for inference. `threads` is the number of CPU threads; None
    means all that this process may use.
    """
    if isinstance(name, Backend):
        return name
    made = _make(_fastest() if name == "auto" else name, device)
    return made.with_precision(precision).with_threads(threads)


def _fastest() -> str:
    from minialex.backends.cuda import device

    return "cupy" if device.usable() else "numba"


def _make(name: str, device: Any) -> Backend:
    if name in _registered:
        return _registered[name](device)
    if name in _BUILT_IN:
        module, attribute = _BUILT_IN[name].split(":")
        return getattr(import_module(module), attribute)(device)
    for point in entry_points(group="minialex.backends", name=name):
        return point.load()(device)
    raise unknown("backend", name, ("auto", *available()))
