"""Response normalisation, its spatial variant, and normalisation fused with max pooling."""

import numpy as np

from minialex.testing.problems.problem import Problem


def _norm(p: Problem) -> tuple:
    """x and dy on the host, the window n, the constants k, alpha and beta, and the groups."""
    groups, n = p.integer(1, 2), 2 * p.integer(0, 3) + 1
    *front, c = p.shape(5)
    return _constants(p, p.normal((*front, c * groups)), n, groups)


def _spatial(p: Problem) -> tuple:
    """The same for images (N, H, W, C)."""
    n = 2 * p.integer(0, 3) + 1
    x = p.normal((p.integer(1, 3), p.integer(1, 4), p.integer(1, 5), p.integer(1, 5)))
    return _constants(p, x, n, 1)


def _constants(p: Problem, x: np.ndarray, n: int, groups: int) -> tuple:
    return x, p.normal(x.shape), n, 1.5, 1.0, 0.75 if p.case % 2 else 0.6, groups


def response_norm(p: Problem) -> tuple:
    x, _, *constants = _norm(p)
    return (p.b.response_norm(p.given(x), *constants)[0],)


def response_norm_gradient(p: Problem) -> tuple:
    x, dy, *constants = _norm(p)
    _, saved = p.b.response_norm(p.given(x), *constants)
    return (p.b.response_norm_gradient(p.given(dy), saved, *constants),)


def _pooled(p: Problem) -> tuple:
    """x and dy on the host, the norm's constants, and the geometry of the pooling after it."""
    x, dy, geometry = p.pooling()
    n = 5 if p.case % 6 == 5 else 3  # five neighbours in 16 channels have kernels of their own
    return x, dy, (n, 2.0, 1.0, 0.75, 1), geometry


def response_norm_pool(p: Problem) -> tuple:
    x, _, norm, geometry = _pooled(p)
    return (p.b.response_norm_pool(p.given(x), norm, geometry)[0],)


def response_norm_pool_gradient(p: Problem) -> tuple:
    x, dy, norm, geometry = _pooled(p)
    _, saved = p.b.response_norm_pool(p.given(x), norm, geometry)
    return (p.b.response_norm_pool_gradient(p.given(dy), saved, norm, geometry, relu=True),)


def spatial_response_norm(p: Problem) -> tuple:
    x, _, *constants, _ = _spatial(p)
    return (p.b.spatial_response_norm(p.given(x), *constants)[0],)


def spatial_response_norm_gradient(p: Problem) -> tuple:
    x, dy, *constants, _ = _spatial(p)
    _, saved = p.b.spatial_response_norm(p.given(x), *constants)
    return (p.b.spatial_response_norm_gradient(p.given(dy), saved, *constants),)
