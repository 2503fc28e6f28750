"""A network on one device or over several of one process: towers, replicas, or both.

`open_devices` returns `Devices`, which hold parameters and run passes. For several devices,
`partition` assigns the work, `sharded_stages` orders it, and `collectives` exchange data.
"""

from collections.abc import Sequence

from minialex.backends import Backend
from minialex.network import Network
from minialex.parallel.config import DeviceConfig
from minialex.parallel.device_group import DeviceGroup
from minialex.parallel.devices import Devices, Inputs, SingleDevice

__all__ = ["DeviceConfig", "DeviceGroup", "Devices", "Inputs", "SingleDevice", "open_devices"]


def open_devices(
    network: Network,
    backend: str | Backend = "auto",
    devices: int | Sequence[int] | None = None,
    parallel: str | None = None,
    precision: str = "fp32",
    threads: int | None = None,
) -> Devices:
    """The network on one device or several: `DeviceConfig` of the same arguments, opened."""
    return DeviceConfig(backend, devices, parallel, precision, threads).open(network)
