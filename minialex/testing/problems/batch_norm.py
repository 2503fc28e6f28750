"""Batch normalisation, and its statistics."""

from minialex.testing.problems.problem import Problem

_EPSILON = 0.01


def _norm(p: Problem) -> tuple:
    """x, dy, weight, bias, mean and variance, on the host."""
    x = p.normal(p.shape(6))
    weight, bias, mean, variance = (p.normal(x.shape[-1:]) for _ in range(4))
    return x, p.normal(x.shape), weight, bias, mean, variance**2


def batch_statistics(p: Problem) -> tuple:
    return p.b.batch_statistics(p.given(_norm(p)[0]))


def batch_norm(p: Problem) -> tuple:
    x, _, *more = _norm(p)
    weight, bias, mean, variance = map(p.parameter, more)
    x = p.given(x)
    return (p.b.batch_norm(x, weight, bias, mean, variance, _EPSILON),)


def batch_norm_gradient(p: Problem) -> tuple:
    x, dy, *more = _norm(p)
    weight, _, mean, variance = map(p.parameter, more)
    x, dy = p.given(x), p.given(dy)
    return p.b.batch_norm_gradient(dy, x, weight, mean, variance, _EPSILON)


def running_average(p: Problem) -> tuple:
    shape = p.shape(90, 0)
    average, new = (p.parameter(p.normal(shape)) for _ in range(2))
    return (p.b.running_average(average, new, 0.9, 0.025),)
