"""Max and average pooling, and their gradients."""

from minialex.backends.base import Pads
from minialex.testing.problems.problem import Problem


def max_pool(p: Problem) -> tuple:
    x, _, geometry = p.pooling()
    return p.b.max_pool(p.given(x), *geometry)


def max_pool_gradient(p: Problem) -> tuple:
    x, dy, geometry = p.pooling()
    argmax = p.b.max_pool(p.given(x), *geometry)[1]
    return (p.b.max_pool_gradient(p.given(dy), argmax, x.shape, *geometry),)


def average_pool(p: Problem) -> tuple:
    x, _, geometry = p.pooling()
    return (p.b.average_pool(p.given(x), *geometry, _counted(p, geometry)),)


def average_pool_gradient(p: Problem) -> tuple:
    x, dy, geometry = p.pooling()
    return (p.b.average_pool_gradient(p.given(dy), x.shape, *geometry, _counted(p, geometry)),)


def _counted(p: Problem, geometry: tuple) -> Pads:
    """Each pad partly or fully."""
    (top, bottom), (left, right) = geometry[-1]
    rows = (p.integer(0, top), p.integer(0, bottom))
    return rows, (p.integer(0, left), p.integer(0, right))
