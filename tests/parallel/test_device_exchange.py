"""The sum of ranks from device to device: the bits of one sum, whoever holds which of its terms."""

import queue
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest

from minialex import backends
from minialex.parallel.device_exchange import DeviceExchange
from minialex.parallel.partition import split
from minialex.parallel.tree_sum import TreeSum

SHAPES = {"fc2": {"weight": (5, 7), "bias": (2,)}, "conv1": {"weight": (3, 1, 2, 4), "bias": (4,)}}


class Mail:
    """One rank's end of a link: arrays go through queues between threads."""

    def __init__(self, rank, boxes):
        self.rank, self.boxes = rank, boxes

    def move(self, sends, receives):
        for x, to in sends:
            assert x.size
            assert x.flags.c_contiguous
            self.boxes[self.rank, to].put(x.copy())
        for x, sender in receives:
            x[...] = self.boxes[sender, self.rank].get(timeout=20)

    def empty(self, size, dtype):
        return np.full(size, np.nan, dtype)

    def done(self, event):
        return True


def total(rank, size, count, terms, boxes):
    """What a rank gets of `terms`, {layer: [{name: array} or None for each]}."""

    def share(count, r=rank):
        return range(*split(count, size)[r])

    b = backends.get("numpy")
    world = SimpleNamespace(rank=rank, size=size, share=share, bytes_sent=0)
    world.wait_until = lambda done: done()
    link = SimpleNamespace(b=b, stream=b, ends=Mail(rank, boxes))
    exchange = DeviceExchange(world, link, SHAPES, "float32", count)
    for layer, every in terms.items():
        sums = TreeSum(count, lambda x, y: {name: x[name] + y[name] for name in x})
        for i in share(count):
            sums.put(i, every[i])
        exchange.start(layer, dict(sums.nodes))
    return exchange.finish(), world.bytes_sent


@pytest.mark.parametrize("count", [1, 4, 7])
@pytest.mark.parametrize("size", [2, 3, 4])
def test_any_number_of_ranks_gets_the_same_bits(size, count):
    rng = np.random.default_rng(count)

    def term(layer, i):
        if i == count - 1 > 0:
            return None  # none of its images could be read
        shapes = SHAPES[layer].items()
        return {name: rng.normal(size=shape).astype("float32") for name, shape in shapes}

    terms = {layer: [term(layer, i) for i in range(count)] for layer in SHAPES}
    wanted = {}
    for layer, every in terms.items():
        sums = TreeSum(count, lambda x, y: {name: x[name] + y[name] for name in x})
        for i, x in enumerate(every):
            sums.put(i, x)
        wanted[layer] = sums.total
    # made beforehand: two threads that ask a defaultdict at once may get two queues
    boxes = {pair: queue.Queue() for pair in product(range(size), repeat=2)}
    with ThreadPoolExecutor(size) as pool:
        found = list(pool.map(lambda r: total(r, size, count, terms, boxes), range(size)))
    for of_rank, sent in found:
        assert sent > 0 or count == 1
        for layer, arrays in wanted.items():
            for name, value in arrays.items():
                np.testing.assert_array_equal(of_rank[layer][name], value)
    assert all(box.empty() for box in boxes.values())
