"""The paper's update by hand, and every schedule at the epochs where it changes."""

from dataclasses import replace

import numpy as np
import pytest

from minialex import backends, models, schedules
from minialex.errors import InputError
from minialex.models.recipe import Recipe
from minialex.optim import SGD, Rates
from minialex.schedules import plateau_drops

PAPER = Recipe()
ORIGINAL = models.get("alexnet-2012").recipe


def test_two_steps_by_hand():
    b = backends.get("numpy")
    params = {"fc8": {"weight": np.array([[1.0]]), "bias": np.array([2.0])}}
    grads = {"fc8": {"weight": np.array([[3.0]]), "bias": np.array([4.0])}}
    optimiser = SGD(replace(PAPER, bias_decay=0.0))
    velocities = optimiser.start(b, params)
    w, v, c, u = 1.0, 0.0, 2.0, 0.0
    for rate in (0.01, 0.001):  # the old velocity keeps its scale after the drop
        optimiser.update(b, params, velocities, grads, Rates(rate, 2 * rate, 0.0))
        v = 0.9 * v - 0.0005 * rate * w - rate * 3.0
        u = 0.9 * u - 2 * rate * 4.0
        w, c = w + v, c + u
    assert params["fc8"]["weight"][0, 0] == pytest.approx(w, rel=1e-12)
    assert params["fc8"]["bias"][0] == pytest.approx(c, rel=1e-12)


def test_rates_and_decay_by_layer():
    b = backends.get("numpy")
    recipe = replace(PAPER, momentum=0.0, layer_rates={"a": 0.5}, layer_decays={"b": 0.0})
    params = {name: {"weight": np.ones(1)} for name in "ab"}
    grads = {name: {"weight": np.ones(1)} for name in "ab"}
    optimiser = SGD(recipe)
    rates = Rates(0.1, 0.1, 0.0)
    optimiser.update(b, params, optimiser.start(b, params), grads, rates)
    assert params["a"]["weight"][0] == pytest.approx(1 - 0.05 - 0.0005 * 0.05)
    assert params["b"]["weight"][0] == pytest.approx(1 - 0.1)


def test_the_penalty_is_what_the_decay_descends():
    b = backends.get("numpy")
    params = {"fc8": {"weight": np.array([1.0, -2.0]), "bias": np.array([3.0])}}
    assert SGD(PAPER).penalty(b, params) == pytest.approx(0.00025 * (1 + 4 + 9))
    assert SGD(ORIGINAL).penalty(b, params) == pytest.approx(0.00025 * (1 + 4))


def test_plateau_divides_by_ten_three_times_at_most():
    assert plateau_drops([0.9, 0.8, 0.7], 2) == 0
    assert plateau_drops([0.9, 0.9, 0.9], 2) == 1
    assert plateau_drops([0.5, 0.6, 0.5, 0.4, 0.4, 0.4], 2) == 2
    recipe, errors = replace(PAPER, patience=1), []
    rates = []
    for epoch in range(7):
        rates.append(schedules.get("plateau")(recipe, epoch, errors).weight)
        errors.append(0.5)
    assert rates == pytest.approx([0.01, 0.01, 1e-3, 1e-4, 1e-5, 1e-5, 1e-5])


@pytest.mark.parametrize(
    ("epoch", "weights", "conv1", "noise"),
    [
        (0, 0.01, 0.01, 0.1),
        (24.9, 0.01, 0.01, 0.1),
        (25, 0.001, 0.001, 0.1),
        (51, 1e-4, 1e-4, 0.1),
        (67, 1e-4, 1e-5, 0.0),
        (72, 1e-4, 0.0, 0.0),
        (79, 1e-5, 0.0, 0.0),
    ],
)
def test_the_schedule_of_the_2012_run(epoch, weights, conv1, noise):
    rates = schedules.get("2012")(ORIGINAL, epoch, [])
    assert rates.of("conv2", "weight") == pytest.approx(weights)
    assert rates.of("conv1", "weight") == pytest.approx(conv1)
    assert rates.of("conv1", "bias") == pytest.approx(0.02)
    assert rates.colour_noise == noise


def test_a_hand_schedule_stretches_to_other_lengths():
    short = replace(ORIGINAL, epochs=9.1)
    assert schedules.get("2012")(short, 2.4, []).weight == pytest.approx(0.01)
    assert schedules.get("2012")(short, 2.6, []).weight == pytest.approx(0.001)


def test_the_hands_off_schedule():
    weights = [schedules.get("dexp")(ORIGINAL, 91 * t, []).weight for t in (0, 0.26, 0.51, 0.76, 1)]
    assert weights == pytest.approx([0.01, 0.001587, 0.000252, 0.00004, 0.00004], rel=1e-3)
    biases = [schedules.get("dexp")(ORIGINAL, 91 * t, []).bias for t in (0, 0.49, 0.5, 1)]
    assert biases == pytest.approx([0.02, 0.02, 0.002, 0.002])


def test_step_cosine_constant():
    recipe = replace(PAPER, epochs=9)
    assert [schedules.get("step")(recipe, e, []).weight for e in (0, 3, 6, 9)] == pytest.approx(
        [0.01, 1e-3, 1e-4, 1e-4]
    )
    assert [schedules.get("cosine")(recipe, e, []).weight for e in (0, 4.5, 9)] == pytest.approx(
        [0.01, 0.005, 0.0]
    )
    assert schedules.get("constant")(recipe, 8, []).weight == 0.01


def test_an_unknown_schedule_is_refused():
    with pytest.raises(InputError, match="did you mean 'cosine'"):
        schedules.get("cosin")
