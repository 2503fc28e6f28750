"""What a network runs on, as one value: the backend, its devices, the precision, CPU threads."""

from collections.abc import Sequence
from dataclasses import dataclass

from minialex import backends
from minialex.backends import Backend
from minialex.errors import InputError, unknown
from minialex.network import Network
from minialex.parallel.device_group import DeviceGroup
from minialex.parallel.partition import SCHEMES

PRECISIONS = ("fp32", "tf32", "bf16", "fp16")


@dataclass(frozen=True)
class DeviceConfig:
    """Where and in which precision a network runs; raises InputError for what no machine has.

    backend    its name, "auto" for the fastest one here, or one that is already made
    devices    a device number, or several: the network then runs over all of them together;
               one may be named twice, to rehearse more devices than there are
    parallel   how several devices divide the work: "towers", "data" or "hybrid" (see `partition`);
               None: towers for a network with as many groups as there are devices, else data
    precision  "fp32"; with CUDA also "tf32", "bf16" or "fp16"
    threads    CPU threads; None: all cores available to this process
    """

    backend: str | Backend | DeviceGroup = "auto"
    devices: int | Sequence[int] | None = None
    parallel: str | None = None
    precision: str = "fp32"
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.devices is not None and not isinstance(self.devices, int):
            object.__setattr__(self, "devices", tuple(self.devices))
            if not self.devices:
                raise InputError("no device was named: name at least one, such as devices=[0]")
        if self.parallel is not None and self.parallel not in SCHEMES:
            raise unknown("way to run in parallel", self.parallel, SCHEMES)
        if self.precision not in PRECISIONS:
            raise unknown("precision", self.precision, PRECISIONS)
        if self.threads is not None and self.threads < 1:
            raise InputError(f"{self.threads} threads were asked for: at least 1 is needed")

    def open(self, network: Network) -> Backend | DeviceGroup:
        """The backend of one device, or a group of devices that share `network`'s work.

        Raises InputError for a device or precision that this machine's backend does not have, and
        for a network that cannot be divided over the devices.
        """
        if isinstance(self.backend, DeviceGroup):
            return self.backend
        numbers = self.devices if isinstance(self.devices, tuple) else (self.devices,)
        opened = [backends.get(self.backend, n, self.precision, self.threads) for n in numbers]
        return opened[0] if len(opened) == 1 else DeviceGroup(network, opened, self.parallel)
