"""The fixed binary tree: one grouping of the terms, whoever sums which of them."""

import pytest

from minialex.parallel.partition import split
from minialex.parallel.tree_sum import TreeSum, nodes_of


def grouped(x, y):
    return f"({x}{y})"


@pytest.mark.parametrize(
    ("count", "tree"),
    [(1, "0"), (2, "(01)"), (3, "((01)2)"), (5, "(((01)(23))4)"), (7, "(((01)(23))((45)6))")],
)
def test_the_tree(count, tree):
    sums = TreeSum(count, grouped)
    for term in range(count):
        sums.put(term, str(term))
    assert sums.total == tree


@pytest.mark.parametrize("count", [1, 2, 3, 6, 8, 13])
@pytest.mark.parametrize("workers", [1, 2, 3, 4, 7])
def test_parts_that_others_summed_make_the_same_tree(count, workers):
    whole, together = TreeSum(count, grouped), TreeSum(count, grouped)
    for term in range(count):
        whole.put(term, str(term))
    for first, end in reversed(split(count, workers)):
        part = TreeSum(count, grouped)
        for term in range(first, end):
            part.put(term, str(term))
        assert list(sorted(part.nodes)) == sorted(nodes_of(count, range(first, end)))
        for (level, index), x in part.nodes.items():
            together.put(index, x, level)
    assert together.total == whole.total


def test_absent_terms_add_nothing():
    sums = TreeSum(4, grouped)
    for term, x in enumerate((None, "1", None, None)):
        sums.put(term, x)
    assert sums.total == "1"
    empty = TreeSum(2, grouped)
    empty.put(0, None)
    empty.put(1, None)
    assert empty.total is None
