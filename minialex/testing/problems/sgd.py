"""The SGD update."""

from minialex.testing.problems.problem import Problem


def sgd_update(p: Problem) -> tuple:
    shape = p.shape(90, 0)  # sometimes several blocks of a tuned kernel
    weight, velocity, slope = (p.parameter(p.normal(shape)) for _ in range(3))
    return p.b.sgd_update(weight, velocity, slope, 0.1, 0.9, 0.01)
