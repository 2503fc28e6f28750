"""Crops of resized images."""

import numpy as np

from minialex.testing.problems.problem import Problem


def crops(p: Problem) -> tuple:
    n, c, crop = p.integer(1, 4), p.integer(1, 3), p.integer(1, 5)
    size = crop + p.integer(0, 4)
    images = p.integers(0, 255, n * size * size * c).reshape(n, size, size, c).astype(np.uint8)
    mean = p.normal((size, size, c)).astype(np.float32)
    top, left = p.integers(0, size - crop, n), p.integers(0, size - crop, n)
    fixed = None if p.case % 2 else (size - crop) // 2
    shift = p.normal((n, c)).astype(np.float32) if p.case % 3 else None
    flip = p.integers(0, 1, n).astype(bool)
    here = (p.b.asarray(images), top, left, flip, crop, mean, fixed, fixed, shift)
    return (p.b.crops(*here, 0.5 if p.case % 2 else 1.0, p.compute),)
