"""Photographs, and the tolerance of scores."""

import numpy as np
import pytest

from minialex.inference.classifier import from_portable
from minialex.parallel import DeviceConfig


@pytest.fixture
def photographs():
    """uint8 (n, size, size, 3) with edges and areas, bright at the border, to test padding."""

    def made(size, n=3, seed=0):
        rng = np.random.default_rng(seed)
        coarse = (
            rng.integers(0, 256, (n, 8, 8, 3)).repeat(-(-size // 8), 1).repeat(-(-size // 8), 2)
        )
        fine = rng.integers(-40, 40, (n, size, size, 3))
        return np.clip(coarse[:, :size, :size] + fine + 40, 0, 255).astype(np.uint8)

    return made


@pytest.fixture
def our_scores():
    """Our scores of photographs as large as the network's input, of a portable model."""

    def scores(portable, images, backend="numpy"):
        classifier = from_portable(portable, DeviceConfig(backend))
        margin = portable.preprocessing.recipe.resize - images.shape[1]
        before = margin // 2
        pads = (before, margin - before)
        padded = np.pad(images, ((0, 0), pads, pads, (0, 0)), constant_values=200)
        [view] = classifier.preprocessing.views(1)
        assert view[:2] == (before, before)
        return classifier.trained.scores(padded, view)

    return scores


@pytest.fixture
def close():
    """Fail unless scores are equal to 1e-5 of the largest."""

    def check(found, expected, tolerance=1e-5):
        assert found.shape == expected.shape
        apart = np.abs(found - expected).max() / np.abs(expected).max()
        assert apart < tolerance, f"{apart:.1e} apart"
        return apart

    return check
