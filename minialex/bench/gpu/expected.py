"""python -m minialex.bench.gpu.expected: what each convolution should take, by arithmetic alone.

From tiles, blocks, occupancy and bytes, for a GPU of 132 multiprocessors such as the H100 and the
H200. Nothing is measured; the suite's table `products` has the measurements.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, prod

from minialex import models
from minialex.backends.cuda import implicit
from minialex.bench.gpu.products import costs
from minialex.layers import Conv2D
from minialex.utils import table

_MULTIPROCESSORS = 132
_REGISTERS, _SHARED = 65536, 227 << 10  # of a multiprocessor
_ITEM = 2  # bytes of a bf16 number
# multiply-adds per cycle of a multiprocessor's tensor cores in bf16, and the cycles of a second
_PER_CYCLE, _CLOCK = 4096 / 2, 1.755e9
_ISSUES = 4  # instructions per cycle of a multiprocessor
BANDWIDTH = {"H100": 3.35e12, "H200": 4.8e12}  # bytes per second, NVIDIA's data sheets

# of a thread of mma.cuh, reported by NVRTC 12.9 for 9.0, bf16, 16-byte copies, by tile width; and
# instructions of a step of the inner loop by mma.cuh and by wgmma.cuh, counted by
# `minialex.bench.gpu.sass` with NVRTC 13.5
REGISTERS = {
    "forward": {128: 240, 96: 212, 64: 158},
    "input gradient": {128: 234, 96: 202, 64: 155},
    "weight gradient": {128: 237, 96: 193, 64: 153},
}
INSTRUCTIONS = {
    "forward": {128: (349, 232), 96: (291, 215), 64: (281, 221)},
    "input gradient": {128: (386, 283), 96: (310, 259), 64: (315, 243)},
    "weight gradient": {128: (435, 323), 96: (396, 309), 64: (353, 289)},
}
_DEPTH = 32  # numbers of the reduction in a step


@dataclass(frozen=True)
class Expected:
    """One product: its launch, and the times in microseconds that it cannot go below."""

    layer: str
    op: str
    tile: int
    blocks: int
    resident: int  # blocks of a multiprocessor at a time
    waves: float
    useful: float  # share of the multiply-adds that are not on padding
    tensor: float  # all tiles' multiply-adds at the tensor cores' rate, waves rounded up
    issue: tuple[float, float]  # the inner loops' instructions (mma, wgmma), waves rounded up
    memory: dict[str, float]

    def least(self, card: str, wgmma: bool) -> float:
        """Microseconds."""
        return max(self.tensor, self.issue[wgmma], self.memory[card])


def expected(batch: int) -> Iterator[Expected]:
    """The convolutions of a training step of AlexNet in bf16 with `mma.cuh`."""
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
        sizes = sizes.with_channels(sizes.channels_to_copy(_ITEM)) if layer.groups == 1 else sizes
        rows, count, depth, parts = {
            "forward": (sizes.pixels, sizes.kg, sizes.rows, 1),
            "input gradient": (prod(image[:3]), sizes.cg, prod(kernel) * sizes.kg, 1),
            "weight gradient": (sizes.rows, sizes.kg, sizes.parts(_ITEM)[1], sizes.parts(_ITEM)[0]),
        }[op]
        tile = implicit.tile(count)
        blocks = ceil(rows / implicit.ROWS) * implicit.columns(count) * layer.groups * parts
        steps = ceil(depth / _DEPTH)
        resident = _resident(op, tile)
        waves = blocks / (_MULTIPROCESSORS * resident)
        slots = ceil(waves) * resident  # blocks that the busiest multiprocessor runs
        work = steps * _DEPTH * implicit.ROWS * tile
        cycles = slots * steps * 4 / _ISSUES  # of an instruction of four warps
        issue = [1e6 * cycles * count / _CLOCK for count in INSTRUCTIONS[op][tile]]
        yield Expected(
            *(name, op, tile, blocks, resident, waves),
            operations / 2 / (blocks * work),
            1e6 * slots * work / _PER_CYCLE / _CLOCK,
            (issue[0], issue[1]),
            {card: 1e6 * least / rate for card, rate in BANDWIDTH.items()},
        )


def _resident(op: str, tile: int) -> int:
    """Blocks of a multiprocessor at a time: by registers, and by shared memory."""
    allocated = ceil(REGISTERS[op][tile] / 8) * 8 * implicit.THREADS
    stages = 3 * (implicit.ROWS + (64 if tile == 64 else 128)) * 64 + 1024
    return min(_REGISTERS // allocated, _SHARED // stages)


def text(batch: int) -> str:
    """The table for a batch size; times are in microseconds."""
    columns = ["layer", "op", "tile", "blocks", "per SM", "waves", "useful"]
    columns += ["tensor", "issue, mma", "issue, wgmma", "memory, H100", "memory, H200"]
    rows = []
    totals = [0.0, 0.0]
    for e in expected(batch):
        totals = [total + e.least("H200", bool(way)) for way, total in enumerate(totals)]
        memory = (f"{e.memory[card]:.0f}" for card in BANDWIDTH)
        launch = (f"{e.tile}", f"{e.blocks:,}", f"{e.resident}", f"{e.waves:.2f}")
        times = (f"{e.useful:.0%}", f"{e.tensor:.0f}", *(f"{t:.0f}" for t in e.issue), *memory)
        rows.append([e.layer, e.op, *launch, *times])
    least = (f"at least {total:.0f}" for total in totals)
    rows.append(["all", *[""] * 7, *least, "", ""])
    return table.markdown(columns, rows)


if __name__ == "__main__":
    for size in (128, 512, 2048):
        print(f"Batch size {size}\n\n{text(size)}\n")
