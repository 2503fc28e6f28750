"""What devices send each other: parts of an activation, parts of its gradient, parameter gradients.

Every sum runs in the order of the devices, so the bits do not depend on who is ready first. Copies
run beside the computation; whoever reads one waits for its event and for nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from minialex.backends import Backend
from minialex.parallel.partition import Range, split

_SMALL = 1 << 16  # gradients of fewer numbers are summed on one device


@dataclass(frozen=True)
class Spread:
    """An activation over the devices: `axis` is divided as `ranges` say, or None: each has all.

    The part of a device that has nothing of it is None.
    """

    parts: tuple[Any, ...]
    axis: int | None = None
    ranges: tuple[Range, ...] = ()


def gather(backends: Sequence[Backend], x: Spread, receivers: Sequence[int]) -> Spread:
    """The whole of a divided activation on each of the receivers."""
    copies = {d: receive_all(backends, x, d) for d in receivers}
    whole: list[Any] = [None] * len(backends)
    for d, received in copies.items():
        b = backends[d]
        with b.here():
            for _, event in received:
                b.wait(event)
            parts = [part for part, _ in received]
            assert x.axis is not None
            whole[d] = b.concat(parts, x.axis) if len(parts) > 1 else parts[0]
    return Spread(tuple(whole))


def receive_all(backends: Sequence[Backend], x: Spread, to: int) -> list[tuple[Any, Any]]:
    """(copy, event) on device `to` of every part of x there is."""
    return [
        backends[to].receive(part, backends[sender]) if sender != to else (part, None)
        for sender, part in enumerate(x.parts)
        if part is not None
    ]


def scatter_sum(
    backends: Sequence[Backend], whole: Sequence[Any], axis: int, ranges: Sequence[Range]
) -> Spread:
    """The adjoint of `gather`: each device gets its range of the sum of everybody's `whole`."""
    contributions: list[list[Any]] = [[] for _ in backends]
    for sender, dx in enumerate(whole):
        if dx is None:
            continue
        for owner, (low, high) in enumerate(ranges):
            if high > low:
                with backends[sender].here():
                    part = backends[sender].take(dx, axis, low, high)
                contributions[owner].append((part, sender))
    return Spread(sums(backends, contributions), axis, tuple(ranges))


def sums(backends: Sequence[Backend], contributions: list[list[Any]]) -> tuple[Any, ...]:
    """For each owner the sum of (array, sender) pairs, in their order; None of none."""
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
        with b.here():
            for x, event in copies:
                b.wait(event)
                total = x if total is None else b.add(total, x)
        totals.append(total)
    return tuple(totals)


class AllReduce:
    """Sums of parameter gradients over the devices, beside the rest of the backward pass.

    Each device owns a part of every gradient: it receives that part from all, sums in order, and
    sends the sum to all. The work runs on queues of its own, the lanes.
    """

    def __init__(self, backends: Sequence[Backend]):
        self.backends = tuple(backends)
        self.lanes = tuple(b.alongside() for b in backends)

    def start(self, gradients: Sequence[Any]) -> list[Any]:
        """-> the sum on every lane. `gradients` has one array or None a device."""
        b0 = next(d for d, g in enumerate(gradients) if g is not None)
        shape, size = gradients[b0].shape, _size(gradients[b0])
        owners = split(size, len(self.lanes) if size >= _SMALL else 1)
        flat: list[Any] = []
        for b, lane, g in zip(self.backends, self.lanes, gradients, strict=True):
            event = b.record()
            lane.wait(event)  # the gradient is there, and what the lane used before is free
            with lane.here():
                flat.append(None if g is None else lane.xp.reshape(g, (size,)))
        contributions: list[list[Any]] = [[] for _ in self.lanes]
        for sender, (lane, g) in enumerate(zip(self.lanes, flat, strict=True)):
            if g is None:
                continue
            with lane.here():
                for owner, (low, high) in enumerate(owners):
                    whole = len(owners) == 1
                    part = g if whole else lane.take(g, 0, low, high)
                    contributions[owner].append((part, sender))
        totals = sums(self.lanes, contributions)
        spread = Spread(totals, 0, tuple(owners))
        everywhere = gather(self.lanes, spread, range(len(self.lanes))).parts
        results = []
        for b, lane, g, total in zip(self.backends, self.lanes, gradients, everywhere, strict=True):
            if g is not None:
                b.lend(g, lane.record())
            with lane.here():
                results.append(lane.xp.reshape(total, shape))
        return results

    def finish(self) -> None:
        """Later work of the devices may read the sums."""
        for b, lane in zip(self.backends, self.lanes, strict=True):
            b.wait(lane.record())

    def used(self, device: int, arrays: Sequence[Any]) -> None:
        """All that a device was given to do with the sums so far must end before they go."""
        event = self.backends[device].record()
        for x in arrays:
            self.lanes[device].lend(x, event)


def _size(x: Any) -> int:
    size = 1
    for extent in x.shape:
        size *= extent
    return size
