"""python -m minialex.bench.gpu.expected: what a training step should take, by arithmetic alone.

From tiles, blocks, occupancy and bytes, for a GPU of 132 multiprocessors such as the H100 and the
H200. Nothing is measured; the suite's tables `products` and `memory-bound` have the measurements.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, prod

from minialex import models
from minialex.backends.cuda import implicit, shifts
from minialex.bench.gpu.memory_bound import traffic
from minialex.bench.gpu.products import costs
from minialex.layers import Conv2D
from minialex.utils import table

_MULTIPROCESSORS = 132
_REGISTERS, _SHARED = 65536, 227 << 10  # of a multiprocessor
_ITEM = 2  # bytes of a bf16 number
# multiply-adds per cycle of a multiprocessor's tensor cores in bf16, and the cycles of a second
_PER_CYCLE, _CLOCK = 4096 / 2, 1.755e9
_ISSUES = 4  # instructions per cycle of a multiprocessor
# bytes per cycle that the L2 cache delivers: the A100's, of NVIDIA's white paper, which gives none
# for the H100
_L2 = 5120
BANDWIDTH = {"H100": 3.35e12, "H200": 4.8e12}  # bytes per second, NVIDIA's data sheets
BATCHES = (128, 512, 2048)

# registers of a thread and instructions of a step of the inner loop, as `minialex.bench.gpu.sass`
# prints them with NVRTC 13.5, by op and tile: for mma.cuh and for wgmma.cuh
COUNTED_WITH = (13, 5)
FAMILIES = {
    "forward": "conv_forward",
    "input gradient": "conv_input_gradient",
    "weight gradient": "conv_weight_gradient",
}
COUNTS = {
    ("forward", 128): ((241, 313), (210, 192)),
    ("forward", 96): ((202, 272), (172, 181)),
    ("forward", 64): ((151, 253), (126, 190)),
    ("input gradient", 128): ((222, 282), (184, 180)),
    ("input gradient", 96): ((184, 261), (155, 169)),
    ("input gradient", 64): ((153, 235), (124, 180)),
    ("input gradient", 48): ((140, 195), (100, 192)),
    ("weight gradient", 128): ((239, 388), (203, 274)),
    ("weight gradient", 96): ((210, 346), (160, 264)),
    ("weight gradient", 64): ((161, 315), (119, 253)),
}
_DEPTH = 32  # numbers of the reduction in a step


@dataclass(frozen=True)
class Way:
    """A convolution by mma.cuh or by wgmma.cuh: its blocks on the card, and microseconds."""

    resident: int  # blocks of a multiprocessor at a time
    tensor: float  # the busiest multiprocessor's multiply-adds at its tensor cores' rate
    issue: float  # the instructions of its inner loops


@dataclass(frozen=True)
class Expected:
    """A convolution's launch, and the times in microseconds that it cannot go below."""

    layer: str
    op: str
    tile: int
    blocks: int
    useful: float  # share of the multiply-adds that are not on padding
    mma: Way
    wgmma: Way
    memory: dict[str, float]
    copied: int  # bytes from the L2 cache to shared memory, by mma.cuh and wgmma.cuh
    by_tma: shifts.Shifts | None  # if conv_tma.cu can compute it

    def least(self, card: str, wgmma: bool) -> float:
        """Microseconds."""
        way = self.wgmma if wgmma else self.mma
        return max(way.tensor, way.issue, self.memory[card])

    @property
    def tma(self) -> tuple[float, int]:
        """The tensor cores' microseconds in conv_tma.cu, and bytes copied to shared memory."""
        s = self.by_tma
        assert s is not None
        most = ceil(s.tiles / _MULTIPROCESSORS)  # tiles that the busiest multiprocessor computes
        work = most * shifts.PIXELS * s.tile * s.inside * prod(s.kernel)
        return 1e6 * work / _PER_CYCLE / _CLOCK, s.copied

    def with_copies(self, card: str, tma: bool) -> float:
        """Microseconds of wgmma.cuh, or of conv_tma.cu where it can be used, copies included."""
        if tma and self.by_tma is not None:
            tensor, copied = self.tma
            return max(tensor, self.memory[card], _from_l2(copied))
        return max(self.least(card, True), _from_l2(self.copied))


def _from_l2(copied: int) -> float:
    """Microseconds."""
    return 1e6 * copied / _L2 / _CLOCK


def expected(batch: int) -> Iterator[Expected]:
    """The convolutions of a training step of AlexNet in bf16."""
    network = models.get("alexnet").network
    shapes, layers = network.shapes(), dict(network.layers)
    position = {name: i for i, (name, _) in enumerate(network.layers)}
    for name, op, operations, least in costs(network, batch, _ITEM):
        layer = layers[name]
        if not isinstance(layer, Conv2D):
            continue
        image = (batch, *shapes[position[name]])
        stride, kernel = (layer.stride,) * 2, (layer.kernel,) * 2
        _, pads, _ = layer.geometry(image[1:])
        sizes = implicit.Convolution.of(image, kernel, layer.channels, stride, pads, layer.groups)
        sizes = sizes.as_copied(_ITEM)
        rows, count, depth, parts = {
            "forward": (sizes.pixels, sizes.kg, sizes.rows, 1),
            "input gradient": (prod(image[:3]), sizes.cg, prod(kernel) * sizes.kg, 1),
            "weight gradient": (sizes.rows, sizes.kg, sizes.parts(_ITEM)[1], sizes.parts(_ITEM)[0]),
        }[op]
        tile = implicit.tile(count, op == "input gradient")
        blocks = ceil(rows / implicit.ROWS) * implicit.columns(count) * layer.groups * parts
        steps = ceil(depth / _DEPTH)
        vector = (sizes.vector_of_outputs if "input" in op else sizes.vector)(_ITEM)
        assert vector * _ITEM == 16, "the instructions were counted for copies of 16 bytes"
        mma, wgmma = (
            _way(counts, warpgroups, blocks, steps, tile)
            for warpgroups, counts in enumerate(COUNTS[op, tile])
        )
        useful = operations / 2 / (blocks * steps * _DEPTH * implicit.ROWS * tile)
        memory = {card: 1e6 * least / rate for card, rate in BANDWIDTH.items()}
        copied = blocks * steps * (implicit.ROWS + tile) * _DEPTH * _ITEM
        plans = {"forward": shifts.forward, "input gradient": shifts.input_gradient}
        by_tma = plans[op](sizes) if op in plans else None
        yield Expected(name, op, tile, blocks, useful, mma, wgmma, memory, copied, by_tma)


def _way(counts: tuple[int, int], warpgroups: int, blocks: int, steps: int, tile: int) -> Way:
    registers, instructions = counts
    # by registers, and by shared memory
    allocated = ceil(registers / 8) * 8 * implicit.THREADS
    stages = 3 * (implicit.ROWS + (64 if tile <= 64 else 128)) * 64 + 1024
    if warpgroups:
        stages = 4 * (implicit.ROWS + tile) * 64 + 2048
    resident = min(_REGISTERS // allocated, _SHARED // stages)
    most = ceil(blocks / _MULTIPROCESSORS)  # blocks that the busiest multiprocessor runs
    work = most * steps * _DEPTH * implicit.ROWS * tile
    cycles = most * steps * 4 / _ISSUES * instructions  # of four warps
    return Way(resident, 1e6 * work / _PER_CYCLE / _CLOCK, 1e6 * cycles / _CLOCK)


@dataclass(frozen=True)
class Bound:
    """A dense layer's product or a memory-bound kernel: microseconds that it cannot go below."""

    layer: str
    op: str
    tensor: float  # the multiply-adds at the tensor cores' rate, whatever cuBLAS's tiles are
    megabytes: float
    memory: dict[str, float]
    alone: bool = True  # a training step does not fuse it with another kernel

    def least(self, card: str) -> float:
        """Microseconds."""
        return max(self.tensor, self.memory[card])


def dense(batch: int) -> Iterator[Bound]:
    """The products of the dense layers, by cuBLAS."""
    network = models.get("alexnet").network
    layers = dict(network.layers)
    rate = _PER_CYCLE * _CLOCK * _MULTIPROCESSORS
    for name, op, operations, least in costs(network, batch, _ITEM):
        if not isinstance(layers[name], Conv2D):
            yield _bound(name, op, 1e6 * operations / 2 / rate, least)


def memory_bound(batch: int) -> Iterator[Bound]:
    """Everything else."""
    for moved in traffic(models.get("alexnet"), batch, _ITEM):
        yield _bound(moved.kernel, "", 0.0, moved.bytes, moved.alone)


def _bound(layer: str, op: str, tensor: float, least: int, alone: bool = True) -> Bound:
    memory = {card: 1e6 * least / rate for card, rate in BANDWIDTH.items()}
    return Bound(layer, op, tensor, least / 1e6, memory, alone)


def step(batch: int, card: str, wgmma: bool) -> float:
    """Microseconds that a step cannot go below: the sum of its kernels."""
    others = [one.least(card) for one in (*dense(batch), *memory_bound(batch)) if one.alone]
    return sum(one.least(card, wgmma) for one in expected(batch)) + sum(others)


def convolutions(batch: int) -> str:
    """A table of the convolutions; times are in microseconds."""
    columns = ["layer", "op", "tile", "blocks", "useful", "per SM, mma", "per SM, wgmma"]
    columns += ["tensor", "issue, mma", "issue, wgmma"]
    columns += [f"memory, {card}" for card in BANDWIDTH]
    rows = []
    for e in expected(batch):
        launch = (f"{e.tile}", f"{e.blocks:,}", f"{e.useful:.0%}")
        resident = (f"{e.mma.resident}", f"{e.wgmma.resident}")
        times = (e.mma.tensor, e.mma.issue, e.wgmma.issue, *e.memory.values())
        rows.append([e.layer, e.op, *launch, *resident, *(f"{t:.0f}" for t in times)])
    return table.markdown(columns, rows)


def bounds(listed: Iterator[Bound], products: bool) -> str:
    """A table of dense layers or memory-bound kernels; times are in microseconds."""
    columns = ["layer", "op", "tensor"] if products else ["kernel", "in a step"]
    columns += ["10⁶ bytes", *(f"memory, {card}" for card in BANDWIDTH)]
    rows = []
    for one in listed:
        first = [one.op, f"{one.tensor:.1f}"] if products else ["alone" if one.alone else "fused"]
        times = (one.megabytes, *one.memory.values())
        rows.append([one.layer, *first, *(f"{t:.1f}" for t in times)])
    return table.markdown(columns, rows)


def totals(batches: tuple[int, ...] = BATCHES) -> str:
    """A table of whole steps: microseconds, and images per second."""
    columns = ["batch", "card", "convolutions by", "convolutions", "their tensor and memory times"]
    columns += ["dense", "others", "step"]
    rows = []
    for batch in batches:
        for card in BANDWIDTH:
            for wgmma in (False, True):
                parts = (
                    sum(one.least(card, wgmma) for one in expected(batch)),
                    sum(max(one.mma.tensor, one.memory[card]) for one in expected(batch)),
                    sum(one.least(card) for one in dense(batch)),
                    sum(one.least(card) for one in memory_bound(batch) if one.alone),
                )
                least = step(batch, card, wgmma)
                times = [f"{t:,.0f}" for t in (*parts, least, 1e6 * batch / least)]
                rows.append([f"{batch}", card, "wgmma" if wgmma else "mma", *times])
    return table.markdown([*columns, "images/s"], rows)


def copies(batch: int) -> str:
    """A table of what the convolutions copy to shared memory; times are in microseconds."""
    columns = ["layer", "op", "10⁶ bytes, wgmma", "L2, wgmma", "tensor, wgmma"]
    columns += ["10⁶ bytes, tma", "L2, tma", "tensor, tma"]
    rows = []
    for e in expected(batch):
        row = [e.layer, e.op, f"{e.copied / 1e6:,.0f}", f"{_from_l2(e.copied):.0f}"]
        row.append(f"{e.wgmma.tensor:.0f}")
        if e.by_tma is not None:
            tensor, copied = e.tma
            row += [f"{copied / 1e6:,.0f}", f"{_from_l2(copied):.0f}", f"{tensor:.0f}"]
        rows.append([*row, "", "", ""][: len(columns)])
    return table.markdown(columns, rows)


def totals_with_copies(batches: tuple[int, ...] = BATCHES) -> str:
    """A table of whole steps if the L2 cache is no faster than assumed: microseconds."""
    columns = ["batch", "card", "convolutions by", "convolutions", "step", "images/s"]
    rows = []
    for batch in batches:
        for card in BANDWIDTH:
            for tma in (False, True):
                listed = list(expected(batch))
                of_them = sum(one.with_copies(card, tma) for one in listed)
                rest = step(batch, card, True) - sum(one.least(card, True) for one in listed)
                whole = of_them + rest
                numbers = (f"{t:,.0f}" for t in (of_them, whole, 1e6 * batch / whole))
                rows.append([f"{batch}", card, "tma" if tma else "wgmma", *numbers])
    return table.markdown(columns, rows)


def gains(batch: int) -> str:
    """A table of what a step could gain at most by what is not done: microseconds."""
    epilogues = ("drop6", "drop7", "relu6's bias, backward", "relu7's bias, backward")
    rows = []
    for card in BANDWIDTH:
        whole = step(batch, card, True)
        gained = sum(one.least(card) for one in memory_bound(batch) if one.layer in epilogues)
        rows.append(["epilogues of cuBLASLt", card, f"{gained:.1f}", f"{gained / whole:.1%}"])
    return table.markdown(["change", "card", "at most", "of a step"], rows)


def text(batch: int) -> str:
    """The tables of a batch size."""
    return "\n\n".join(
        (
            f"Batch size {batch}: convolutions",
            convolutions(batch),
            f"Batch size {batch}: dense layers",
            bounds(dense(batch), products=True),
            f"Batch size {batch}: memory-bound kernels",
            bounds(memory_bound(batch), products=False),
        )
    )


if __name__ == "__main__":
    print(totals())
    print(f"\n{totals_with_copies()}\n\n{copies(BATCHES[0])}\n\n{gains(BATCHES[0])}")
    for size in BATCHES:
        print(f"\n{text(size)}")
