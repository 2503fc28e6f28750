"""Convolution and its gradients."""

from minialex.backends.base import output_shape
from minialex.testing.problems.problem import Problem


def _convolution(p: Problem) -> tuple:
    """x, weight, bias, dy on the host, and (stride, pads, groups)."""
    (r, s), stride, pads, (h, w) = p.window()
    groups, n = p.integer(1, 3), p.integer(1, 3)
    # the last case's channels can be copied 16 bytes at a time
    cg, kg = (8, 8) if p.case % 6 == 5 else (p.integer(1, 3), p.integer(1, 3))
    x, weight = p.normal((n, h, w, cg * groups)), p.normal((r, s, cg, kg * groups))
    dy = p.normal((n, *output_shape((h, w), (r, s), stride, pads), kg * groups))
    return x, weight, p.normal((kg * groups,)), dy, (stride, pads, groups)


def convolution(p: Problem) -> tuple:
    x, weight, bias, _, geometry = _convolution(p)
    x, weight, bias = p.given(x), p.given(weight), p.parameter(bias)
    return p.b.convolution(x, weight, bias, *geometry), p.b.convolution(x, weight, None, *geometry)


def convolution_input_gradient(p: Problem) -> tuple:
    x, weight, _, dy, geometry = _convolution(p)
    return (p.b.convolution_input_gradient(p.given(dy), p.given(weight), x.shape, *geometry),)


def convolution_input_gradient_relu(p: Problem) -> tuple:
    x, weight, _, dy, geometry = _convolution(p)
    given = [p.given(a) for a in (dy, weight, x)]
    return (p.b.convolution_input_gradient_relu(*given, *geometry),)


def convolution_weight_gradient(p: Problem) -> tuple:
    x, weight, _, dy, geometry = _convolution(p)
    kernel = weight.shape[:2]
    return (p.b.convolution_weight_gradient(p.given(x), p.given(dy), kernel, *geometry),)


def convolution_parameter_gradients(p: Problem) -> tuple:
    x, weight, _, dy, geometry = _convolution(p)
    return p.b.convolution_parameter_gradients(p.given(x), p.given(dy), weight.shape, *geometry)
