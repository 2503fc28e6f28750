"""Whole arrays: sums, slices, and whether they are finite."""

import numpy as np

from minialex.testing.problems.problem import Problem


def scale(p: Problem) -> tuple:
    return (p.b.scale(p.pair()[0], 0.7),)


def scale_channels(p: Problem) -> tuple:
    x = p.given(p.normal((2, p.integer(1, 5), p.integer(1, 5), 3)))
    return (p.b.scale_channels(x, (0.5, -2.0, 3.0)),)


def add(p: Problem) -> tuple:
    return (p.b.add(*p.pair()),)


def concat(p: Problem) -> tuple:
    first, second = p.pair(1), p.pair(1)
    return p.b.concat(first, 0), p.b.concat(second, len(second[0].shape) - 1)


def narrow(p: Problem) -> tuple:
    x, _ = p.pair(1)
    last, end = len(x.shape) - 1, x.shape[-1]
    return p.b.narrow(x, 0, 0, x.shape[0]), p.b.narrow(x, last, end // 2, end)


def zeros_like(p: Problem) -> tuple:
    return (p.b.zeros_like(p.pair()[0]),)


def all_finite(p: Problem) -> tuple:
    values = p.normal(p.shape(12))
    bad = values.copy()
    bad[..., -1] = (np.nan, np.inf, -np.inf)[p.case % 3]
    return np.array(p.b.all_finite(p.given(values))), np.array(p.b.all_finite(p.given(bad)))


def sum_of_squares(p: Problem) -> tuple:
    return (np.array(p.b.sum_of_squares(p.given(p.normal(p.shape(90, 0))))),)
