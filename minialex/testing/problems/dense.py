"""Dense layers and their gradients."""

from minialex.testing.problems.problem import Problem


def _dense(p: Problem) -> tuple:
    """x (N, H, W, C), weight, bias and dy on the host."""
    n, h, w, c, units = (p.integer(1, 4) for _ in range(5))
    return (
        p.normal((n, h, w, c)),
        p.normal((h * w * c, units)),
        p.normal((units,)),
        p.normal((n, units)),
    )


def dense(p: Problem) -> tuple:
    x, weight, bias, _ = map(p.given, _dense(p))
    return p.b.dense(x, weight, bias), p.b.dense(x, weight, None), p.b.dense(x, weight, bias, True)


def dense_input_gradient(p: Problem) -> tuple:
    x, weight, _, dy = _dense(p)
    return (p.b.dense_input_gradient(p.given(dy), p.given(weight), x.shape),)


def dense_weight_gradient(p: Problem) -> tuple:
    x, _, _, dy = map(p.given, _dense(p))
    return (p.b.dense_weight_gradient(x, dy),)


def bias_gradient(p: Problem) -> tuple:
    shape = (p.integer(1, 3), p.integer(1, 30), p.integer(1, 30), p.integer(1, 70))
    return (p.b.bias_gradient(p.given(p.normal(shape))),)
