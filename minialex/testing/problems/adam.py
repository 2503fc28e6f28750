"""Adam's update."""

from minialex.testing.problems.problem import Problem


def adam_update(p: Problem) -> tuple:
    shape = p.shape(90, 0)
    weight, mean, slope = (p.parameter(p.normal(shape)) for _ in range(3))
    square = p.parameter(p.normal(shape) ** 2)
    return p.b.adam_update(weight, mean, square, slope, 0.1, 0.01, 3, 0.9, 0.999, 1e-8)
