"""Vectorised loops over contiguous runs: a copy, and the bias and ReLU after a product."""

import numpy as np

from minialex.utils.jit import compiled


@compiled
def copy(source, start, there, to, count):
    """there[to + j] = source[start + j]; unsigned as in `finish`."""
    start, to = np.uint64(start), np.uint64(to)
    for j in range(np.uint64(count)):
        there[to + j] = source[start + j]


@compiled
def add(source, start, there, to, count):
    """there[to + j] += source[start + j]; unsigned as in `finish`."""
    start, to = np.uint64(start), np.uint64(to)
    for j in range(np.uint64(count)):
        there[to + j] += source[start + j]


@compiled
def finish(y, start, count, bias, first, relu):
    """Add bias[first : first + count] to y[start : start + count], then the ReLU if there is one.

    Counters are unsigned because negative indices would count from the end, and the check for that
    prevents vectorisation.
    """
    zero, start, first = y.dtype.type(0), np.uint64(start), np.uint64(first)
    for k in range(np.uint64(count)):
        v = y[start + k] + bias[first + k]
        y[start + k] = zero if relu and v < zero else v
