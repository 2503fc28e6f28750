"""The contract for execution: precision, threads, streams, events and memory."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Self

import numpy as np

from minialex.precision import FULL, Precision

Array = Any  # an array of the backend's own library


class Execution(ABC):
    """The part of the contract (see `base.Backend`) that concerns the device, not the maths.

    Two backends on one device may use separate streams; pass an array from one to the other with
    `receive`, or with `record`, `wait` and `record_stream`.
    """

    name: str
    xp: Any
    device: Any
    precision: Precision
    threads: int | None = None  # CPU threads, if they can be chosen
    stream: Any = None  # of a CUDA device's work

    def __init__(self, name: str, xp: Any, device: Any = None):
        self.name = name
        self.xp = xp
        self.device = device
        self.precision = FULL

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    @abstractmethod
    def with_precision(self, precision: str | Precision) -> Self:
        """This backend computing in one of `precision.PRECISIONS`; InputError if it cannot."""

    @abstractmethod
    def with_threads(self, threads: int | None) -> Self:
        """This backend with this many CPU threads (None: its own choice)."""

    @abstractmethod
    def with_fixed_sums(self) -> Self:
        """This backend with results that do not depend on the number of CPU threads."""

    def for_inference(self) -> Self:
        """This backend for passes at test time: what an op saves for its gradient may be missing.

        Rounding may differ from that in training.
        """
        return self

    @abstractmethod
    def with_own_stream(self) -> Self:
        """This backend with its own stream, to run concurrently with others on its device."""

    @abstractmethod
    def device_context(self) -> AbstractContextManager:
        """The context in which this backend's device and stream are current for its library."""

    @abstractmethod
    def describe(self) -> str:
        """A human-readable description of the device."""

    @abstractmethod
    def remarks(self, devices: Sequence) -> list[str]:
        """Warnings to print before a run: unequal devices, or kernels still to be compiled."""

    @abstractmethod
    def device_count(self) -> int:
        """How many devices of this kind the process can use."""

    @abstractmethod
    def device_id(self) -> str | None:
        """What tells the device from others of its machine, in all processes; None on the host."""

    @abstractmethod
    def memory(self) -> int | None:
        """Bytes that arrays may use on the device; None if they are in host memory."""

    @abstractmethod
    def peak_memory(self) -> int | None:
        """Bytes that the device's memory pool has reserved; None on the host."""

    @abstractmethod
    def host_empty(self, shape: Sequence[int], dtype: str) -> np.ndarray:
        """Uninitialised host memory from which copies to the device are fastest."""

    @abstractmethod
    def synchronize(self) -> None:
        """Wait until the device has finished all work."""

    @abstractmethod
    def receive(self, x: Array, sender: Self) -> tuple[Array, Any]:
        """A copy of the sender's array on this device, and an event to wait for before reading."""

    @abstractmethod
    def record(self) -> Any:
        """An event after all work so far, for another backend of the device to wait for."""

    @abstractmethod
    def wait(self, event: Any) -> None:
        """Make later work wait for an event (None: no wait)."""

    @abstractmethod
    def record_stream(self, x: Array, event: Any) -> None:
        """Keep the memory of x, which another backend reads, until the event."""

    @abstractmethod
    def link_key(self) -> Any:
        """A key with which devices of several processes can be linked; None if they cannot."""

    @abstractmethod
    def link(self, key: Any, size: int, rank: int) -> Any:
        """Link this device, as number `rank`, with those of `size` processes, which all call this.

        The result has `move(sends, receives)`, which moves contiguous arrays on this backend's
        stream, both as (array, rank); `empty(size, dtype)`, an array to receive; and `done(event)`,
        whether an event of `record` has passed.
        """

    @abstractmethod
    def compile(self, step: Any) -> Any:
        """Compile a `training.step.TrainStep` for the device; None if that is not supported.

        The result has `start(state, batch, rates)`, which returns a function that waits for the
        loss and a function that tells whether it is ready; `replay()`, which repeats the last
        step's work; and `lag`, how many losses may be pending. Its steps update the state's
        parameters and velocities in place.
        """

    @abstractmethod
    def compute_dtype(self, dtype: str) -> str:
        """The type of the activations of a network of `dtype` at this precision."""

    @abstractmethod
    def cast_params(self, params: dict) -> dict:
        """The parameters cast to the compute type (fp32: the same arrays)."""
