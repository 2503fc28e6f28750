"""CuPy and the CUDA devices of this machine, with a clear error for whatever is missing."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from minialex.errors import InputError

_INSTEAD = 'or choose backend="numpy"'


def library() -> Any:
    """The module cupy; raises InputError if it is not installed or cannot be loaded."""
    try:
        return import_module("cupy")
    except ImportError as error:
        if error.name == "cupy":
            raise InputError(
                'backend "cupy" needs the package CuPy: install "minialex[gpu]" for CUDA 12 or '
                f'"minialex[gpu13]" for CUDA 13, {_INSTEAD}'
            ) from None
        raise InputError(f"CuPy is installed but cannot be loaded ({error}): {_INSTEAD}") from None


def count() -> int:
    """The number of CUDA devices; raises InputError if there is no driver or no device."""
    runtime = library().cuda.runtime
    try:
        found = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"CuPy finds no usable CUDA driver ({reason}): install NVIDIA's driver, {_INSTEAD}"
        ) from None
    if found == 0:
        raise InputError(f"the CUDA driver finds no GPU: check that one is visible, {_INSTEAD}")
    return found


def usable() -> bool:
    """Whether there is a device to run on."""
    try:
        return bool(library().cuda.is_available())
    except InputError:
        return False


def check(index: int) -> None:
    """Raise InputError unless device `index` exists."""
    found = count()
    if not 0 <= index < found:
        names = ", ".join(map(str, range(found)))
        raise InputError(
            f"there is no CUDA device {index}: this machine has {found} (number {names})"
        )


def identity(index: int) -> str:
    """What tells a device from all others of the machine, in all processes: address and UUID.

    The parts of a GPU that is divided (MIG) have one address. The UUID alone is not enough: CuPy
    cuts it off at its first zero byte.
    """
    runtime = library().cuda.runtime
    uuid = runtime.getDeviceProperties(index).get("uuid", b"")
    return f"{runtime.deviceGetPCIBusId(index)} {uuid.hex()}"


def describe(index: int) -> dict[str, Any]:
    """Name, compute capability ("9.0") and memory in bytes of a device."""
    properties = library().cuda.runtime.getDeviceProperties(index)
    name = properties["name"]
    return {
        "name": name.decode() if isinstance(name, bytes) else name,
        "capability": f"{properties['major']}.{properties['minor']}",
        "memory": properties["totalGlobalMem"],
    }


def capability(index: int) -> tuple[int, int]:
    """The compute capability of a device."""
    properties = library().cuda.runtime.getDeviceProperties(index)
    return properties["major"], properties["minor"]


def multiprocessors(index: int) -> int:
    """How many multiprocessors a device has."""
    return int(library().cuda.runtime.getDeviceProperties(index)["multiProcessorCount"])


def l2_cache(index: int) -> int:
    """Bytes of a device's L2 cache."""
    return int(library().cuda.runtime.getDeviceProperties(index)["l2CacheSize"])


def has_tensor_cores(index: int) -> bool:
    """Whether the kernels of tensor.cuh run on a device: from compute capability 8.0 on."""
    return capability(index) >= (8, 0)


def has_warpgroup_products(index: int) -> bool:
    """Whether wgmma.cuh runs on a device: only on compute capability 9.0, which has wgmma."""
    return capability(index) == (9, 0)


def remarks(indices: Sequence[int]) -> list[str]:
    """Remarks on a set of devices: that they differ, or cannot copy peer to peer."""
    found = {i: describe(i) for i in sorted(set(indices))}
    said = []
    if len({tuple(d.values()) for d in found.values()}) > 1:
        listed = ", ".join(
            f"{i}: {d['name']} with {d['memory'] / 2**30:.0f} GiB" for i, d in found.items()
        )
        said.append(
            f"the devices differ ({listed}): the result is the same, but each step waits for the "
            "slowest, and the smallest memory limits the batch"
        )
    reach = library().cuda.runtime.deviceCanAccessPeer
    if any(not reach(a, b) for a in found for b in found if a != b):
        said.append("these devices cannot copy to each other directly: copies go through the host")
    return said
