"""Random problems for every op of a backend: one file per op family, as in `backends/generic/`.

Each public function there is an op: from a `Problem` to the op's results. On two backends, the same
case number gives the same problem.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from minialex.testing.problems import (
    activations,
    adam,
    arrays,
    batch_norm,
    convolution,
    crops,
    dense,
    dropout,
    losses,
    pooling,
    response_norm,
    sgd,
)
from minialex.testing.problems.problem import GENERIC, Problem, difference

__all__ = ["GENERIC", "OPS", "Problem", "difference"]

_FAMILIES = (
    *(convolution, pooling, response_norm, batch_norm, dense, activations),
    *(arrays, losses, dropout, crops, sgd, adam),
)

OPS: dict[str, Callable[[Problem], Sequence[Any]]] = {
    name: op
    for family in _FAMILIES
    for name, op in vars(family).items()
    if inspect.isfunction(op) and op.__module__ == family.__name__ and not name.startswith("_")
}
