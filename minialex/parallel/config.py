"""Where a network runs, as one value: backend, devices, precision, CPU threads."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from minialex import backends
from minialex import precision as precisions
from minialex.backends import Backend
from minialex.errors import InputError, unknown
from minialex.network import Network
from minialex.parallel.device_group import DeviceGroup
from minialex.parallel.devices import Devices, SingleDevice
from minialex.parallel.partition import SCHEMES
from minialex.parallel.world import World
from minialex.utils.arguments import ListOf, Text, integer, plain
from minialex.utils.cores import usable_cores
from minialex.utils.options import check, option

_GROUP = "devices"
_ALONE = World()


@dataclass(frozen=True)
class _Backend(Text):
    """A name, or a `Backend` instance."""

    def check(self, name: str, value: Any) -> Any:
        return value if isinstance(value, Backend) else super().check(name, value)


@dataclass(frozen=True)
class _Numbers(ListOf):
    """One number or several."""

    def check(self, name: str, value: Any) -> Any:
        found = plain(value)
        if isinstance(found, int | float):
            return self.of.check(name, found)
        if not (numbers := super().check(name, value)):
            raise InputError("no device was given: give at least one, such as devices=[0]")
        return numbers


@dataclass(frozen=True)
class DeviceConfig:
    """Where a network runs; a resumed run may use other devices.

    Raises InputError for values that are never valid; `backend` may be a `Backend` instance.
    """

    backend: str | Backend = option(
        "auto",
        "numpy, numba, cupy or an installed one (default: the fastest here)",
        group=_GROUP,
        type=_Backend(),
        metavar="NAME",
        free_on_resume=True,
    )
    devices: int | Sequence[int] | None = option(
        None,
        "device numbers, e.g. 0,1; several train together, and one may be given twice",
        group=_GROUP,
        type=_Numbers(integer(0)),
        metavar="N,N",
        free_on_resume=True,
    )
    parallel: str | None = option(
        None,
        "how to split the work over devices: towers (as in the paper), data, or hybrid "
        "(convolutions by images, dense layers by units); default: towers if the network has as "
        "many, else data",
        group=_GROUP,
        metavar="HOW",
        free_on_resume=True,
    )
    precision: str = option(
        "fp32",
        "fp32, or exact (slower: no Winograd tiles); on CUDA also tf32, bf16 or fp16, on numba "
        "int8, for predictions only",
        group=_GROUP,
        metavar="TYPE",
        free_on_resume=True,
    )
    threads: int | None = option(
        None,
        "CPU threads (default: the available cores)",
        group=_GROUP,
        type=integer(1),
        metavar="N",
        free_on_resume=True,
    )

    def __post_init__(self) -> None:
        check(self)
        precisions.get(self.precision)
        if self.parallel is None:
            return
        if self.parallel not in SCHEMES:
            raise unknown("parallel scheme", self.parallel, SCHEMES)
        if not isinstance(self.devices, tuple) or len(self.devices) < 2:
            raise InputError(
                f"parallel={self.parallel!r} needs several devices: give them, such as "
                "devices=[0, 1]"
            )

    @property
    def count(self) -> int:
        """The number of devices of this process."""
        return len(self.devices) if isinstance(self.devices, tuple) else 1

    @classmethod
    def of(cls, devices: Devices) -> "DeviceConfig":
        """The configuration that reopens these devices, here or in another process."""
        first, numbers, scheme = devices.backends[0], devices.backends[0].device, None
        if len(devices.backends) > 1:
            scheme = devices.scheme
            numbers = tuple(0 if b.device is None else b.device for b in devices.backends)
        threads = None if first.threads == usable_cores() else first.threads
        return cls(first.name, numbers, scheme, first.precision.name, threads)

    def settings(self) -> dict[str, Any]:
        """The arguments as stored in config.json."""
        found = {one.name: getattr(self, one.name) for one in fields(self)}
        found["backend"] = str(getattr(self.backend, "name", self.backend))
        return found

    def open(self, network: Network, fixed_sums: bool = False, world: World = _ALONE) -> Devices:
        """The network on these devices; raises InputError if they cannot run it.

        With `fixed_sums`, results do not depend on the number of CPU threads. The ranks of `world`
        divide the threads of their machine, and its CUDA devices.
        """
        devices = self.devices
        if devices is None and world.size > 1:
            first = backends.get(self.backend)
            if first.device_id() is not None:
                # a process may see only its own device, as number 0, or all of the machine
                devices = world.node_rank % first.device_count()
        numbers = devices if isinstance(devices, tuple) else (devices,)
        opened = [backends.get(self.backend, n, self.precision, self.threads) for n in numbers]
        for b, number in zip(opened, numbers, strict=True):
            if b.device is None and number is not None and number >= len(numbers):
                names = ",".join(map(str, range(len(numbers))))
                raise InputError(
                    f'backend "{b.name}" has no device {number}: its devices are all the CPU, '
                    f"numbered from 0, so use {names}"
                )
        if self.threads is None and world.threads is not None:
            most = world.threads  # or fewer, such as NUMBA_NUM_THREADS
            opened = [b.with_threads(min(b.threads, most)) if b.threads else b for b in opened]
        if fixed_sums:
            opened = [b.with_fixed_sums() for b in opened]
        if len(opened) == 1:
            return SingleDevice(network, opened[0])
        return DeviceGroup(network, opened, self.parallel)
