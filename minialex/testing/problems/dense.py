"""Dense layers and their gradients."""

from math import prod

from minialex.testing.problems.problem import Problem


def _dense(p: Problem) -> tuple:
    """x (N, ...), weight, bias and dy on the host."""
    n, *image = p.shape(4, 2)
    units = p.integer(1, 4)
    return (
        p.normal((n, *image)),
        p.normal((prod(image), units)),
        p.normal((units,)),
        p.normal((n, units)),
    )


def dense(p: Problem) -> tuple:
    x, weight, bias, _ = _dense(p)
    x, weight, bias = p.given(x), p.given(weight), p.parameter(bias)
    return p.b.dense(x, weight, bias), p.b.dense(x, weight, None), p.b.dense(x, weight, bias, True)


def dense_input_gradient(p: Problem) -> tuple:
    x, weight, _, dy = _dense(p)
    return (p.b.dense_input_gradient(p.given(dy), p.given(weight), x.shape),)


def dense_weight_gradient(p: Problem) -> tuple:
    x, _, _, dy = map(p.given, _dense(p))
    return (p.b.dense_weight_gradient(x, dy),)


def bias_gradient(p: Problem) -> tuple:
    return (p.b.bias_gradient(p.given(p.normal(p.shape(70)))),)
