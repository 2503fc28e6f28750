"""Softmax, and the losses with their gradients."""

import numpy as np

from minialex.testing.problems.problem import Problem


def _scores(p: Problem) -> tuple:
    n, k = p.integer(1, 6), p.integer(2, 9)
    return p.given(p.apart((n, k))), p.b.asarray(p.integers(0, k - 1, n))


def softmax(p: Problem) -> tuple:
    return (p.b.softmax(p.given(p.apart(p.shape(9)))),)


def softmax_cross_entropy(p: Problem) -> tuple:
    scores, labels = _scores(p)
    whole, part = p.b.softmax_cross_entropy(scores, labels), (scores, labels, 9, 64.0)
    return *whole, *p.b.softmax_cross_entropy(*part)


def soft_cross_entropy(p: Problem) -> tuple:
    scores, _ = _scores(p)
    targets = p.parameter(np.abs(p.normal(scores.shape)))
    whole, part = p.b.soft_cross_entropy(scores, targets), (scores, targets, 9, 64.0)
    return *whole, *p.b.soft_cross_entropy(*part)


def hinge(p: Problem) -> tuple:
    scores, labels = _scores(p)
    return *p.b.hinge(scores, labels, 0.9), *p.b.hinge(scores, labels, 0.9, 9, 64.0)
