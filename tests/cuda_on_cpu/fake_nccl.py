"""NCCL for the stand-in: arrays move between processes by MPI, under the rules of NCCL.

Sends and receives are only queued on the stream, and read and write memory in its order. Outside a
group they would wait for each other; counts and types must match; device and stream must be those
of the communicator.
"""

import types

import numpy as np

from cuda_on_cpu.fake_cupy import _at
from cuda_on_cpu.machine import Elsewhere

_TYPES = {7: np.float32, 8: np.float64}


class _Moving(Elsewhere):
    """A group under way: it begins when the stream gets there."""

    def __init__(self, calls: list):
        self._calls, self._requests, self._arriving = calls, None, []

    def begin(self) -> None:
        self._requests = []
        for mpi, sends, address, count, kind, peer in self._calls:
            about, data = np.array([count, kind]), _at(address, count, _TYPES[kind])
            if sends:
                data = data.copy()
                self._requests += [mpi.Isend(about, peer, 1), mpi.Isend(data, peer, 2)]
            else:
                found = np.empty_like(about), np.empty_like(data)
                self._requests += [mpi.Irecv(found[0], peer, 1), mpi.Irecv(found[1], peer, 2)]
                self._arriving.append((about, data, found))
            self._kept = (*getattr(self, "_kept", ()), about, data)  # MPI reads them later

    @property
    def done(self) -> bool:
        if self._requests is None:
            return False
        if self._requests:
            from mpi4py import MPI

            if not MPI.Request.Testall(self._requests):
                return False
            self._requests = []
            for about, data, (theirs, values) in self._arriving:
                assert (about == theirs).all(), f"sent {theirs}, received {about}"
                data[:] = values
        return True


def install(cupy: types.ModuleType) -> None:
    """Make `cupy.cuda.nccl` available."""
    from mpi4py import MPI

    machine, group = cupy.machine, []

    class NcclCommunicator:
        def __init__(self, ndev: int, commId: tuple, rank: int):
            self._mpi = MPI.COMM_WORLD.Dup()
            assert (ndev, rank) == (self._mpi.Get_size(), self._mpi.Get_rank())
            assert len(commId) == 128
            assert set(self._mpi.allgather(commId)) == {commId}, "ranks have other keys"
            self._device = cupy.cuda.Device().id

        def send(self, sendbuf: int, count: int, datatype: int, peer: int, stream: int) -> None:
            self._call(True, sendbuf, count, datatype, peer, stream)

        def recv(self, recvbuf: int, count: int, datatype: int, peer: int, stream: int) -> None:
            self._call(False, recvbuf, count, datatype, peer, stream)

        def _call(self, sends, address, count, datatype, peer, stream) -> None:
            assert group, "outside a group, sends and receives wait for each other"
            assert cupy.cuda.Device().id == self._device
            assert cupy.cuda.get_current_stream().ptr == stream
            assert 0 <= peer < self._mpi.Get_size() != peer != self._mpi.Get_rank()
            assert address
            assert count > 0
            group[-1].append((self._mpi, sends, address, count, datatype, peer))

    def group_end() -> None:
        moving, queue = _Moving(group.pop()), cupy.cuda.get_current_stream()._queue
        cupy.cuda.nccl.moved += 1
        machine._add(queue, moving.begin)
        machine._add(queue, wait_for=moving)

    cupy.cuda.nccl = types.SimpleNamespace(
        available=True,
        moved=0,  # groups
        NCCL_FLOAT32=7,
        NCCL_FLOAT64=8,
        get_unique_id=lambda: tuple(np.random.default_rng().integers(-128, 128, 128).tolist()),
        groupStart=lambda: group.append([]),
        groupEnd=group_end,
        NcclCommunicator=NcclCommunicator,
    )
