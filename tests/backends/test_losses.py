"""The losses, on every backend, against the loops of `reference/`."""

import numpy as np
import pytest
from helpers.strategies import DTYPES, grid
from hypothesis import given
from hypothesis import strategies as st

from minialex.testing.tolerance import assert_close, exact
from reference import losses


@given(st.integers(1, 5), st.integers(2, 6), st.sampled_from(DTYPES), st.integers(0, 99))
def test_losses(b, n, classes, dtype, seed):
    scores = (3 * grid((n, classes), seed)).astype(dtype)
    labels = np.random.default_rng(seed).integers(0, classes, n)
    for ours, theirs in (
        (b.softmax_cross_entropy, losses.softmax_cross_entropy),
        (lambda s, l: b.hinge(s, l, 0.97), lambda s, l: losses.hinge(s, l, 0.97)),
    ):
        loss, gradient = ours(b.asarray(scores), b.asarray(labels))
        wanted_loss, wanted = theirs(exact(scores), labels)
        assert_close(float(loss), wanted_loss, dtype, n * classes, "loss")
        assert_close(b.to_numpy(gradient), wanted, dtype, classes, "gradient")


@given(st.integers(1, 4), st.integers(1, 6), st.sampled_from(DTYPES), st.integers(0, 99))
def test_softmax(b, n, classes, dtype, seed):
    """The loss's gradient times the batch size is the probabilities minus 1 at the label."""
    scores, labels = (30 * grid((n, classes), seed)).astype(dtype), np.zeros(n, int)
    _, gradient = losses.softmax_cross_entropy(exact(scores), labels)
    wanted = n * gradient + np.eye(classes)[labels]
    assert_close(b.to_numpy(b.softmax(b.asarray(scores))), wanted, dtype, classes)
    assert np.isfinite(b.to_numpy(b.softmax(b.asarray(1e3 * scores)))).all()


def test_large_scores_do_not_overflow(b):
    loss, gradient = b.softmax_cross_entropy(
        b.asarray(np.array([[1e4, -1e4]], "float32")), b.asarray(np.array([1]))
    )
    assert float(loss) == pytest.approx(2e4)
    assert np.isfinite(b.to_numpy(gradient)).all()


@given(st.integers(1, 5), st.integers(2, 6), st.sampled_from(DTYPES), st.integers(0, 99))
def test_losses_with_targets_instead_of_labels(b, n, classes, dtype, seed):
    """Rows that do not sum to 1, one of them all zeros, as part of a larger batch."""
    scores = (3 * grid((n, classes), seed)).astype(dtype)
    targets = np.abs(grid((n, classes), seed + 1)).astype(dtype)
    targets[0] = 0
    loss, gradient = b.soft_cross_entropy(b.asarray(scores), b.asarray(targets))
    wanted_loss, wanted = losses.soft_cross_entropy(exact(scores), exact(targets))
    assert_close(float(loss), wanted_loss, dtype, n * classes, "loss")
    assert_close(b.to_numpy(gradient), wanted, dtype, classes, "gradient")
    part, scaled = b.soft_cross_entropy(b.asarray(scores), b.asarray(targets), 2 * n, 8.0)
    assert_close(float(part), wanted_loss / 2, dtype, n * classes, "loss of a part")
    assert_close(b.to_numpy(scaled), 4 * wanted, dtype, classes, "scaled gradient")
