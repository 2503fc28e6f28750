"""Dropout, its mask, and dropout fused with the dense layer and ReLU before it."""

from math import prod

from minialex.testing.problems.problem import Problem


def dropout_mask(p: Problem) -> tuple:
    shape = p.shape(40, 2)
    seed, stream, step = p.integer(0, 2**31), p.integer(0, 20), p.integer(0, 2**31)
    return (p.b.dropout_mask(shape, 0.3 + 0.1 * p.case, seed, stream, step, p.integer(0, 1000)),)


def _dropped(p: Problem) -> tuple:
    """Dropout of some of a layer's channels."""
    x, first = p.normal(p.shape(9, 2)), p.integer(0, 9)
    c = x.shape[-1]
    draw = (p.integer(0, 2**31), p.integer(0, 20), 3, p.integer(0, 9), first, first + c + p.case)
    return p.b.dropout(p.given(x), 0.6, 1.5, *draw), x.shape


def dropout(p: Problem) -> tuple:
    return (_dropped(p)[0][0],)


def dropout_gradient(p: Problem) -> tuple:
    (_, saved), shape = _dropped(p)
    return (p.b.dropout_gradient(p.given(p.normal(shape)), saved),)


def dense_relu_dropout(p: Problem) -> tuple:
    n, *image = p.shape(9, 2)
    o, first = p.integer(1, 9), p.integer(0, 9)
    x, weight = (p.given(p.normal(shape)) for shape in ((n, *image), (prod(image), o)))
    bias = p.parameter(p.normal((o,)))
    draw = (p.integer(0, 2**31), p.integer(0, 20), 3, p.integer(0, 9), first, first + o + p.case)
    return (p.b.dense_relu_dropout(x, weight, bias, 0.6, 1.5, *draw),)


def relu_dropout_gradient(p: Problem) -> tuple:
    return (p.b.relu_dropout_gradient(*p.pair(), 1.5),)
