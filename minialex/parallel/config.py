"""Where a network is to run, as one value: backend, devices, precision, CPU threads."""

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
from minialex.utils.options import list_of, option

_GROUP = "devices"


@dataclass(frozen=True)
class DeviceConfig:
    """Where a network is to run; a resumed run may run elsewhere.

    Raises InputError for what no machine has; `backend` may be a `Backend` that is already made.
    """

    backend: str | Backend = option(
        "auto",
        "numpy, numba, cupy or an installed one (default: the fastest here)",
        group=_GROUP,
        metavar="NAME",
        free_on_resume=True,
    )
    devices: int | Sequence[int] | None = option(
        None,
        "device numbers, e.g. 0,1; several train together, and one may be named twice",
        group=_GROUP,
        type=list_of(int),
        metavar="N,N",
        free_on_resume=True,
    )
    parallel: str | None = option(
        None,
        "how several devices share the work: towers (the paper's), data, or hybrid (dense layers "
        "divided, convolutions by images); default: towers where the network has as many, or data",
        group=_GROUP,
        metavar="HOW",
        free_on_resume=True,
    )
    precision: str = option(
        "fp32",
        "fp32, tf32, bf16 or fp16 (CUDA)",
        group=_GROUP,
        metavar="TYPE",
        free_on_resume=True,
    )
    threads: int | None = option(
        None,
        "CPU threads (default: the available cores)",
        group=_GROUP,
        type=int,
        metavar="N",
        free_on_resume=True,
    )

    def __post_init__(self) -> None:
        if self.devices is not None and not isinstance(self.devices, int):
            object.__setattr__(self, "devices", tuple(self.devices))
            if not self.devices:
                raise InputError("no device was named: name at least one, such as devices=[0]")
        if self.parallel is not None and self.parallel not in SCHEMES:
            raise unknown("way to run in parallel", self.parallel, SCHEMES)
        precisions.get(self.precision)
        if self.threads is not None and self.threads < 1:
            raise InputError(f"{self.threads} threads were asked for: at least 1 is needed")

    def settings(self) -> dict[str, Any]:
        """The arguments as config.json has them."""
        found = {one.name: getattr(self, one.name) for one in fields(self)}
        found["backend"] = str(getattr(self.backend, "name", self.backend))
        return found

    def open(self, network: Network) -> Devices:
        """The network on these devices; raises InputError if they cannot run it."""
        numbers = self.devices if isinstance(self.devices, tuple) else (self.devices,)
        opened = [backends.get(self.backend, n, self.precision, self.threads) for n in numbers]
        if len(opened) == 1:
            return SingleDevice(network, opened[0])
        return DeviceGroup(network, opened, self.parallel)
