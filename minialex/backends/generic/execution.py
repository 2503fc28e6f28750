"""Execution on one host: precision, threads, streams, events and memory."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from typing import Any, Self

import numpy as np

from minialex import precision as precisions
from minialex.backends.base import Array, Backend
from minialex.errors import InputError
from minialex.precision import FULL, Precision


class GenericExecution(Backend):
    """A library without devices, streams or precisions to choose."""

    def describe(self) -> str:
        device = "" if self.device is None else f", device {self.device}, {self.precision}"
        return f"on the {self.name} backend{device}"

    def compile(self, step: Any) -> None:
        return None

    def with_precision(self, precision: str | Precision) -> Self:
        """This backend computing in one of `precision.PRECISIONS`, if it can."""
        found = precisions.get(precision)
        if found == self.precision:
            return self
        if found == FULL or found.exact:
            changed = copy(self)
            changed.precision = found
            return changed
        other = "numba" if found.int8 else "cupy"
        raise InputError(
            f'backend "{self.name}" does not compute in {found}: leave the precision out, or use '
            f'backend="{other}"'
        )

    def with_threads(self, threads: int | None) -> Self:
        """This backend with this many CPU threads (None: its own choice)."""
        if threads is None:
            return self
        raise InputError(f'backend "{self.name}" has no thread setting: leave the number out')

    def with_fixed_sums(self) -> Self:
        return self

    def with_own_stream(self) -> Self:
        """This backend with its own stream, to run concurrently with others on its device."""
        return self

    def device_context(self) -> AbstractContextManager:
        """The context in which this backend's device is current for its array library."""
        return nullcontext()

    def remarks(self, devices: Sequence) -> list[str]:
        """Warnings to print before a run: unequal devices, or kernels still to be compiled."""
        return []

    def device_count(self) -> int:
        """How many devices of this kind the process can use: one, the host."""
        return 1

    def device_id(self) -> str | None:
        """What tells the device from others of its machine: nothing on the host."""
        return None

    def memory(self) -> int | None:
        """Bytes that arrays may use on the device; None if they are in host memory."""
        return None

    def peak_memory(self) -> int | None:
        """Bytes that the device's memory pool has reserved; None on the host."""
        return None

    def host_empty(self, shape: Sequence[int], dtype: str) -> np.ndarray:
        """Host memory like any other."""
        return np.empty(shape, dtype)

    def synchronize(self) -> None:
        """Wait until all work given to the device is done."""

    def receive(self, x: Array, sender: Self) -> tuple[Array, Any]:
        """A copy of the sender's array here, and an event to `wait` for before it is read."""
        return x, None

    def link_key(self) -> Any:
        """A key with which devices of several processes can be linked: they cannot."""
        return None

    def link(self, key: Any, size: int, rank: int) -> Any:
        """Not supported: `link_key` is None."""
        raise NotImplementedError(f"{self.name} cannot link devices of several processes")

    def record(self) -> Any:
        """An event after all work so far, for another backend of the device to `wait` for."""

    def wait(self, event: Any) -> None:
        """Make later work wait for an event."""

    def record_stream(self, x: Array, event: Any) -> None:
        """Keep the memory of x, which another backend reads, until the event."""

    def compute_dtype(self, dtype: str) -> str:
        """The type of the activations of a network of `dtype` at this precision."""
        return self.precision.compute_dtype(dtype)

    def cast_params(self, params: dict) -> dict:
        """The parameters cast to the compute type; at full precision, the same arrays."""
        return params
