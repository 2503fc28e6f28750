"""Diagnostics: layer statistics at the start, plateaus, and the first NaN or Inf."""

import re

import numpy as np
import pytest

from minialex import backends, losses, models
from minialex.layers import Mode
from minialex.training import diagnostics

b = backends.get("numpy")


@pytest.fixture
def network():
    return models.get("cifar10", 10).network


def test_layer_statistics(network):
    params = network.init(b, 0, "float64")
    x = np.random.default_rng(0).normal(0, 60, (4, 32, 32, 3))
    labels = np.arange(4)
    table, value = diagnostics.layer_statistics(
        b, network, params, losses.SoftmaxCrossEntropy(), x, labels
    )
    rows = {line.split()[0]: line.split()[1:] for line in table.splitlines()[1:-1]}
    assert list(rows) == [name for name, _ in network.layers]
    scores = network.infer(b, params, x)
    _, dscores = b.softmax_cross_entropy(scores, labels)
    mean, std, gradient = map(float, rows["fc4"])
    assert mean == pytest.approx(scores.mean(), rel=0.01)
    assert std == pytest.approx(scores.std(), rel=0.01)
    assert gradient == pytest.approx(dscores.std(), rel=0.01)
    assert value == pytest.approx(np.log(10), rel=0.05)


def test_running_statistics_that_say_nothing_yet_are_no_alarm():
    """Five seeds: 2.30 to 2.31; with the running statistics, 6 to 20."""
    network = models.get("alexnet-64-bn", 10).network
    x = np.random.default_rng(0).normal(0, 60, (8, 64, 64, 3)).astype(np.float32)
    given = losses.SoftmaxCrossEntropy(), x, np.arange(8)
    _, value = diagnostics.layer_statistics(b, network, network.init(b, 0, "float32"), *given)
    assert diagnostics.start_verdict(value, np.log(10)).endswith(": ok")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (2.31, ": ok"),
        (30.0, "far too high"),
        (1e33, "loss 1e+33 ("),
        (np.inf, "far too high"),
        (0.3, "leak"),
    ],
)
def test_the_initial_loss_is_checked(value, words):
    assert words in diagnostics.start_verdict(value, np.log(10))


def test_a_plateau_is_reported_with_advice():
    chance = np.log(1000)
    advice = diagnostics.plateau_advice([6.92, 6.905], chance, 2000, "do this")
    assert advice.endswith("if the loss does not move, do this")
    assert diagnostics.plateau_advice([6.9], chance, 100, "") is None  # too early to say
    assert diagnostics.plateau_advice([6.9, 6.2], chance, 2000, "") is None  # it moves


class Batch:
    images, labels, positions = np.zeros((2, 32, 32, 3), np.uint8), np.zeros(2), np.arange(2)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ("conv2", r"conv2\.weight is not finite after the update of step 6"),
        (None, "the output of layer conv1 is the first"),
    ],
)
def test_non_finite_layers_are_named(network, tmp_path, spoil, words):
    params = network.init(b, 0, "float64")
    x = np.zeros((2, 32, 32, 3))
    if spoil:
        params[spoil]["weight"][0, 0, 0, 0] = np.nan
    else:
        x[0, 0, 0, 0] = np.inf
    error = diagnostics.non_finite(b, network, params, x, Batch, Mode(step=7), tmp_path)
    assert re.search(words, str(error))
    assert "step 7" in str(error)
    assert (tmp_path / "nonfinite-step-7.npz").exists()
