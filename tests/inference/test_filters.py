"""Colour against grey in the first layer's kernels, tower by tower."""

import numpy as np
import pytest
from helpers.untrained import untrained

from minialex.errors import InputError
from minialex.inference.filters import colour_share, colours, first_kernels, separation_by_chance


def kernel(red, green, blue):
    """A kernel (4, 4, 3, 1) whose left half has these values, and whose right half is 0."""
    w = np.zeros((4, 4, 3, 1))
    w[:, :2, :, 0] = red, green, blue
    return w


def test_grey_has_no_colour_and_opponent_colours_are_all_colour():
    assert colour_share(kernel(1, 1, 1)) == pytest.approx(0)
    assert colour_share(kernel(1, 1, 1) + 7) == pytest.approx(0)  # the mean does not count
    assert colour_share(kernel(1, -1, 0)) == pytest.approx(1)
    assert colour_share(np.zeros((4, 4, 3, 1))) == 0
    assert colour_share(np.full((4, 4, 3, 1), 3.0)) == 0


def test_a_mixture_is_measured_by_energy():
    # (3, 1, -1) is 1 of grey and (2, 0, -2) of colour on half of the pixels; the mean is removed
    w = kernel(3, 1, -1)
    colour = 8 * (4 + 0 + 4)
    grey = 16 * 3 * 0.5**2
    assert colour_share(w) == pytest.approx(colour / (colour + grey))
    assert colour_share(5 * w) == pytest.approx(colour / (colour + grey))


def test_noise_has_two_thirds_colour():
    w = np.random.default_rng(0).normal(size=(50, 50, 3, 2))
    np.testing.assert_allclose(colour_share(w), 2 / 3, atol=0.02)


def with_colour_in_tower_two(**options):
    classifier = untrained(**options)
    weight = np.array(classifier.params["conv1"]["weight"])
    half = weight.shape[3] // 2
    weight[..., :half] = weight[..., :half].mean(axis=2, keepdims=True)
    classifier.params["conv1"]["weight"] = weight
    return classifier


def test_each_tower_has_its_own_median_and_spread():
    found = colours(with_colour_in_tower_two())
    one, two = found.towers
    assert (one.number, one.kernels, two.number, two.kernels) == (1, 32, 2, 32)
    assert one.upper_quartile == pytest.approx(0, abs=1e-6)
    assert 0.5 < two.lower_quartile < two.median < two.upper_quartile < 0.8
    assert found.separation == 1
    assert two.median == pytest.approx(np.median(found.shares[32:]))


def test_one_tower_is_measured_whole_or_in_halves():
    classifier = with_colour_in_tower_two(towers=1)
    found = colours(classifier)
    assert [tower.kernels for tower in found.towers] == [64]
    assert found.separation is None
    assert colours(classifier, towers=2).separation == 1
    with pytest.raises(InputError, match="64 kernels cannot be divided evenly into 3"):
        colours(classifier, towers=3)


def test_equal_towers_have_no_separation():
    assert colours(untrained()).separation == pytest.approx(0.5, abs=0.2)


def test_the_first_kernels_are_found_under_any_name():
    assert first_kernels(untrained(name="cifar10")).shape == (5, 5, 3, 32)
    assert first_kernels(untrained(name="vgg-16-64")).shape == (3, 3, 3, 16)


def test_kernels_over_flow_are_refused():
    with pytest.raises(InputError, match="have 20 input channels"):
        colours(untrained(name="stream-48", channels=20))


@pytest.mark.parametrize("kernels", [24, 32, 48])
def test_separation_by_chance(kernels):
    """The mean of 2,000 random orders, which deviate by 4 or 5 points each."""
    drawn = np.random.default_rng(0).random((2000, 2, kernels))
    above = (drawn[:, 1, :, None] > drawn[:, 0, None, :]).mean(axis=(1, 2))
    mean = np.maximum(above, 1 - above).mean()
    assert abs(separation_by_chance(kernels) - mean) < 0.005
