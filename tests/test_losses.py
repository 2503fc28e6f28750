"""The losses: gradients by central differences, initial values, and names."""

import numpy as np
import pytest
from helpers.strategies import grid
from hypothesis import given
from hypothesis import strategies as st

from minialex import backends, losses
from minialex.errors import InputError

b = backends.get("numpy")


@pytest.mark.parametrize("name", ["softmax", "hinge"])
@given(n=st.integers(1, 5), classes=st.integers(2, 7), seed=st.integers(0, 99))
def test_gradient(name, n, classes, seed):
    loss = losses.get(name, margin=0.97)
    scores, way = grid((n, classes), seed), grid((n, classes), seed + 1)
    labels = np.random.default_rng(seed).integers(0, classes, n)
    _, gradient = loss(b, scores, labels)
    step = 1e-6
    up, down = (float(loss(b, scores + s * step * way, labels)[0]) for s in (1, -1))
    assert np.sum(gradient * way) == pytest.approx((up - down) / (2 * step), rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("name", ["softmax", "hinge"])
def test_equal_scores_have_the_loss_of_random_guessing(name):
    loss = losses.get(name, margin=2.0)
    value, _ = loss(b, np.zeros((3, 10)), np.array([0, 5, 9]))
    assert float(value) == pytest.approx(loss.chance(10))


def test_the_hinge_example_of_the_lecture_slides():
    """Scores 3.2, 5.1, -1.7 with the first class right: max(0, 2.9) + max(0, -3.9) = 2.9."""
    value, _ = losses.Hinge(1.0)(b, np.array([[3.2, 5.1, -1.7]]), np.array([0]))
    assert float(value) == pytest.approx(2.9)


def test_a_misspelt_loss_and_a_zero_margin_are_refused():
    with pytest.raises(InputError, match="did you mean 'softmax'"):
        losses.get("softmx")
    with pytest.raises(InputError, match="margin above 0"):
        losses.get("hinge", margin=0.0)


@given(n=st.integers(1, 5), classes=st.integers(2, 7), seed=st.integers(0, 99))
def test_gradient_of_targets(n, classes, seed):
    loss = losses.SoftmaxCrossEntropy()
    scores, way = grid((n, classes), seed), grid((n, classes), seed + 1)
    targets = np.abs(grid((n, classes), seed + 2))
    _, gradient = loss(b, scores, targets)
    step = 1e-6
    up, down = (float(loss(b, scores + s * step * way, targets)[0]) for s in (1, -1))
    assert np.sum(gradient * way) == pytest.approx((up - down) / (2 * step), rel=1e-6, abs=1e-8)


def test_one_hot_targets_equal_labels():
    loss, scores, labels = losses.SoftmaxCrossEntropy(), grid((4, 5), 0), np.array([0, 3, 4, 3])
    (value, dscores), (wanted, expected) = (loss(b, scores, y) for y in (np.eye(5)[labels], labels))
    assert float(value) == pytest.approx(float(wanted))
    np.testing.assert_allclose(dscores, expected, atol=1e-12)


def test_equal_scores_have_the_loss_of_guessing_with_smoothed_labels():
    loss, targets = losses.SoftmaxCrossEntropy(), 0.9 * np.eye(10) + 0.01
    assert float(loss(b, np.zeros((10, 10)), targets)[0]) == pytest.approx(loss.chance(10))


def test_the_hinge_loss_refuses_targets():
    with pytest.raises(InputError, match="need the softmax loss"):
        losses.Hinge()(b, np.zeros((2, 3)), np.eye(3)[:2])
