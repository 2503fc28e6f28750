"""python -m minialex.bench.gpu.exchange: what two GPUs exchange in a step, and how long it takes.

By arithmetic alone, in bf16. A device starts with its own channels while those of the other arrive,
so an exchange costs what is left of it after that product.
"""

from collections.abc import Iterator
from math import prod

from minialex import models
from minialex.bench.gpu import expected
from minialex.parallel import partition
from minialex.utils import table

_ITEM = 2  # bytes of a bf16 number; gradients of parameters have 4
# bytes per second each way: half of what NVIDIA's data sheet of the H100 gives for both
LINKS = {"NVLink": 450e9, "PCIe 5": 64e9, "PCIe 4": 32e9}


def towers(batch: int) -> Iterator[tuple[str, float, float]]:
    """(layer, 10⁶ bytes each way, microseconds of the product that hides them), of each exchange.

    In the backward pass, as many bytes of gradients go back.
    """
    network = models.get("alexnet").network
    plan = partition.make(network, 2, "towers")
    shapes = dict(zip((name for name, _ in network.layers), network.shapes(), strict=False))
    bounds: dict[str, float] = {
        one.layer: one.least("H100", True)
        for one in expected.expected(batch)
        if one.op == "forward"
    }
    bounds |= {one.layer: one.least("H100") for one in expected.dense(batch) if one.op == "forward"}
    for name, (first, _) in plan.partitions.items():
        if len(first.terms) > 1:
            other = batch * prod(shapes[name]) / 2 * _ITEM
            # half of the outputs, of half of the inputs
            yield name, other / 1e6, bounds[name] / 4


def text(batch: int) -> str:
    """A table of the exchanges of towers, and of data parallelism: microseconds by link."""
    columns = ["exchange", "10⁶ bytes each way", *LINKS, "hidden by"]
    rows, sums = [], dict.fromkeys(LINKS, 0.0)
    for layer, megabytes, hidden in towers(batch):
        times = {link: 1e6 * megabytes * 1e6 / rate for link, rate in LINKS.items()}
        for link, time in times.items():
            sums[link] += 2 * max(0.0, time - hidden)
        rows.append(_row(f"towers, {layer}", megabytes, times, f"{hidden:.1f}"))
    rows.append(["towers, a step waits", "", *(f"{time:,.1f}" for time in sums.values()), ""])
    # each device sends the half that the other sums, and then its own sums
    megabytes = 4 * models.get("alexnet").network.parameter_count / 1e6
    times = {link: megabytes * 1e12 / rate for link, rate in LINKS.items()}
    rows.append(_row("data, gradients", megabytes, times, "the backward pass"))
    return table.markdown(columns, rows)


def _row(name: str, megabytes: float, times: dict[str, float], hidden: str) -> list[str]:
    return [name, f"{megabytes:.1f}", *(f"{time:,.1f}" for time in times.values()), hidden]


if __name__ == "__main__":
    for size in expected.BATCHES:
        print(f"Batch size {size}\n\n{text(size)}\n")
