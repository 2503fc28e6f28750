"""Arrays that move between the devices of several processes, by NCCL.

NCCL only moves them. Its own sums run in an order that depends on the number of devices and on how
they are connected, so their last bits would, too.
"""

from collections.abc import Sequence
from typing import Any

from minialex.backends.cuda.device import library
from minialex.backends.cuda.device_stream import DeviceStream

Key = tuple[int, ...]


def nccl() -> Any:
    """CuPy's module; None if CuPy comes without it, or cannot load NCCL."""
    try:
        found = getattr(library().cuda, "nccl", None)
    except ImportError:
        return None
    return found if getattr(found, "available", False) else None


class Link:
    """One process's end: `stream` is that of its device on which arrays move."""

    def __init__(self, stream: DeviceStream, key: Key, size: int, rank: int):
        self._stream = stream
        with stream.device_context():
            self._communicator = nccl().NcclCommunicator(size, key, rank)

    def move(self, sends: Sequence[tuple[Any, int]], receives: Sequence[tuple[Any, int]]) -> None:
        """Send contiguous arrays to ranks, and fill others from ranks; (array, rank) each.

        What one rank sends to another arrives in this order.
        """
        if not sends and not receives:
            return
        module, ours = nccl(), self._communicator
        kinds = {"float32": module.NCCL_FLOAT32, "float64": module.NCCL_FLOAT64}
        names = {x.dtype.name for x, _ in (*sends, *receives)}
        if unknown := names - set(kinds):  # an error later would leave the group open
            raise TypeError(f"NCCL moves {', '.join(kinds)} here, not {', '.join(unknown)}")
        with self._stream.device_context():
            stream = library().cuda.get_current_stream().ptr
            module.groupStart()  # one after the other, they would wait for each other
            for x, rank in sends:
                ours.send(x.data.ptr, x.size, kinds[x.dtype.name], rank, stream)
            for x, rank in receives:
                ours.recv(x.data.ptr, x.size, kinds[x.dtype.name], rank, stream)
            module.groupEnd()

    def empty(self, size: int, dtype: str) -> Any:
        """An array (size,) to be filled."""
        return self._stream.empty((size,), dtype)

    @staticmethod
    def done(event: Any) -> bool:
        """Whether an event that the backend recorded has passed."""
        return event.done
