"""Exchanges between devices: gather, reduce-scatter and all-reduce, in a fixed order.

Every sum runs in device order, so the result does not depend on which device is ready first. Copies
overlap with computation; a reader waits only for the event of the copy it reads.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from minialex.backends import Backend
from minialex.parallel.partition import Range, split

_SMALL = 1 << 16  # gradients of fewer numbers are summed on one device


@dataclass(frozen=True)
class ShardedActivation:
    """An activation over the devices, split along `axis` into `ranges` (None: replicated).

    A device without a part has None.
    """

    parts: tuple[Any, ...]
    axis: int | None = None
    ranges: tuple[Range, ...] = ()


def gather(
    backends: Sequence[Backend], x: ShardedActivation, receivers: Sequence[int]
) -> ShardedActivation:
    """Gather the whole of a sharded activation on each receiver."""
    copies = {d: receive_all(backends, x, d) for d in receivers}
    whole: list[Any] = [None] * len(backends)
    for d, received in copies.items():
        b = backends[d]
        with b.device_context():
            for _, event in received:
                b.wait(event)
            parts = [part for part, _ in received]
            assert x.axis is not None
            whole[d] = b.concat(parts, x.axis) if len(parts) > 1 else parts[0]
    return ShardedActivation(tuple(whole))


def receive_all(
    backends: Sequence[Backend], x: ShardedActivation, to: int
) -> list[tuple[Any, Any]]:
    """(copy, event) on device `to` of every existing part of x."""
    return [
        backends[to].receive(part, backends[sender]) if sender != to else (part, None)
        for sender, part in enumerate(x.parts)
        if part is not None
    ]


def reduce_scatter(
    backends: Sequence[Backend], whole: Sequence[Any], axis: int, ranges: Sequence[Range]
) -> ShardedActivation:
    """The adjoint of `gather`: each device gets its range of the sum over all `whole` arrays."""
    contributions: list[list[Any]] = [[] for _ in backends]
    for sender, dx in enumerate(whole):
        if dx is None:
            continue
        for owner, (low, high) in enumerate(ranges):
            if high > low:
                with backends[sender].device_context():
                    part = backends[sender].narrow(dx, axis, low, high)
                contributions[owner].append((part, sender))
    return ShardedActivation(sums(backends, contributions), axis, tuple(ranges))


def sums(backends: Sequence[Backend], contributions: list[list[Any]]) -> tuple[Any, ...]:
    """For each owner, the sum of its (array, sender) pairs in order; None if there are none."""
    received = [
        [
            (backends[owner].receive(x, backends[sender]) if sender != owner else (x, None))
            for x, sender in pairs
        ]
        for owner, pairs in enumerate(contributions)
    ]
    totals: list[Any] = []
    for owner, copies in enumerate(received):
        b, total = backends[owner], None
        with b.device_context():
            for x, event in copies:
                b.wait(event)
                total = x if total is None else b.add(total, x)
        totals.append(total)
    return tuple(totals)


class AllReduce:
    """All-reduce of parameter gradients, overlapped with the rest of the backward pass.

    Each device owns a part of every gradient: it receives that part from all devices, sums in
    order, and sends the sum to all. The work runs on separate streams.
    """

    def __init__(self, backends: Sequence[Backend]):
        self.backends = tuple(backends)
        self.streams = tuple(b.with_own_stream() for b in backends)
        self._running = False

    def start(self, gradients: Sequence[Any]) -> list[Any]:
        """-> the sum on every stream. `gradients` has one array or None per device."""
        self._running = True
        first_device = next(d for d, g in enumerate(gradients) if g is not None)
        shape, size = gradients[first_device].shape, _size(gradients[first_device])
        owners = split(size, len(self.streams) if size >= _SMALL else 1)
        flat: list[Any] = []
        for b, stream, g in zip(self.backends, self.streams, gradients, strict=True):
            event = b.record()
            stream.wait(
                event
            )  # the gradient has arrived, and the memory that the stream used before is free
            with stream.device_context():
                flat.append(None if g is None else stream.xp.reshape(g, (size,)))
        contributions: list[list[Any]] = [[] for _ in self.streams]
        for sender, (stream, g) in enumerate(zip(self.streams, flat, strict=True)):
            if g is None:
                continue
            with stream.device_context():
                for owner, (low, high) in enumerate(owners):
                    whole = len(owners) == 1
                    part = g if whole else stream.narrow(g, 0, low, high)
                    contributions[owner].append((part, sender))
        totals = sums(self.streams, contributions)
        spread = ShardedActivation(totals, 0, tuple(owners))
        everywhere = gather(self.streams, spread, range(len(self.streams))).parts
        results = []
        for b, stream, g, total in zip(
            self.backends, self.streams, gradients, everywhere, strict=True
        ):
            if g is not None:
                b.record_stream(g, stream.record())
            with stream.device_context():
                results.append(stream.xp.reshape(total, shape))
        return results

    def finish(self) -> None:
        """Make later work on the devices wait for the sums."""
        if not self._running:  # streams without work are no part of a compiled step
            return
        self._running = False
        for b, stream in zip(self.backends, self.streams, strict=True):
            b.wait(stream.record())

    def used(self, device: int, arrays: Sequence[Any]) -> None:
        """Wait until all work on the sums so far has ended, before they are freed."""
        event = self.backends[device].record()
        for x in arrays:
            self.streams[device].record_stream(x, event)


def _size(x: Any) -> int:
    size = 1
    for extent in x.shape:
        size *= extent
    return size
