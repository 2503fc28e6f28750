"""Sums in a fixed binary tree: the same bits, whoever computes which of the terms.

Terms are numbered 0 … count - 1. Node (level, i) is the sum of nodes (level - 1, 2i) and
(level - 1, 2i + 1), and the terms are level 0; a node without a right neighbour moves up as it is.
At most log2(count) + 1 sums are held at a time, if the terms come in order.
"""

from collections.abc import Callable, Iterable
from typing import Any

Node = tuple[int, int]  # level, index


class TreeSum:
    """The sum of `count` terms by `add`; terms and sums may be None, which adds nothing."""

    def __init__(self, count: int, add: Callable[[Any, Any], Any]):
        self.count, self.add = count, add
        self.nodes: dict[Node, Any] = {}

    def put(self, index: int, x: Any, level: int = 0) -> None:
        """Add a term, or, with a `level`, a node that was computed elsewhere."""
        while not self._is_root(level):
            left = index % 2 == 0
            if (level, index ^ 1) in self.nodes:
                neighbour = self.nodes.pop((level, index ^ 1))
                x = self._sum(x, neighbour) if left else self._sum(neighbour, x)
            elif not left or (index + 1) << level < self.count:
                break  # the neighbour is still to come
            level, index = level + 1, index // 2
        self.nodes[level, index] = x

    @property
    def total(self) -> Any:
        """The sum; all terms must be in."""
        [(level, _)] = self.nodes
        assert self._is_root(level)
        return self.nodes[level, 0]

    def _is_root(self, level: int) -> bool:
        return 1 << level >= self.count

    def _sum(self, x: Any, y: Any) -> Any:
        if x is None or y is None:
            return y if x is None else x
        return self.add(x, y)


def nodes_of(count: int, terms: range) -> list[Node]:
    """The nodes that remain of a run of neighbouring `terms`, in order."""
    sums = TreeSum(count, lambda x, y: None)
    for term in terms:
        sums.put(term, None)
    return sorted(sums.nodes, key=lambda node: node[1] << node[0])


def nodes_of_ranks(world: Any, count: int) -> list[list[Node]]:
    """The nodes that each rank of `world` has of `count` terms."""
    return [nodes_of(count, world.share(count, rank)) for rank in range(world.size)]


def sum_of_nodes(count: int, parts: Iterable[tuple[Node, Any]], add: Callable) -> Any:
    """The sum of `count` terms from nodes that make up the whole tree."""
    sums = TreeSum(count, add)
    for (level, index), part in parts:
        sums.put(index, part, level)
    return sums.total
