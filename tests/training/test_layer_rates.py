"""Learning rates of single layers, and one order of the images for all epochs."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.tiny import register_tiny, tiny

import minialex
from minialex.data.loading.loader import Loader
from minialex.errors import InputError
from minialex.models.recipe import Recipe
from minialex.training import layer_rates
from minialex.training.fitted_recipe import KEPT_RATE

SETTINGS = {
    "model": "tiny",
    "batch_size": 8,
    "backend": "numpy",
    "progress": False,
    "report": False,
}


@pytest.fixture(autouse=True)
def network(monkeypatch):
    register_tiny(monkeypatch)


def weights(classifier):
    return {
        f"{layer}.{name}": classifier.devices.to_numpy(value).copy()
        for layer, of_layer in classifier.params.items()
        for name, value in of_layer.items()
    }


def test_pre_trainings_rates_stand_beside_the_fitted_ones_and_outlive_a_stop(tmp_path):
    """The last layer drawn anew at ten times the rate, the first one still."""
    first = minialex.train("shapes:48", **SETTINGS, epochs=1, out=tmp_path / "first")
    given = {"conv1": 0.0, "conv2": 0.5, "fc8": 10.0}
    asked = {"initial": first.run_dir, "replace_classifier": True, "layer_rates": given}
    asked["optimizer"] = "sgd"  # Adam has one rate for all that have none of their own
    out = tmp_path / "run"
    run = minialex.train("shapes:48", **SETTINGS, **asked, epochs=2, out=out, max_steps=1)
    wanted = {**given, "fc6": KEPT_RATE}
    assert run.classifier.model.recipe.layer_rates == wanted
    run = minialex.train(resume=out, progress=False)
    assert run.classifier.model.recipe.layer_rates == wanted
    before, after = weights(first.classifier), weights(run.classifier)
    same = {name for name, w in before.items() if np.array_equal(w, after[name])}
    assert same == {"conv1.weight", "conv1.bias"}
    with pytest.raises(InputError, match="was started with layer_rates="):
        minialex.train(resume=out, progress=False, layer_rates={"conv1": 1.0})


def test_names_that_have_no_rate():
    network, recipe = tiny(3), replace(Recipe(), layer_rates={"fc6": 0.5})
    found = layer_rates.applied(recipe, network, {"conv2.bias": 0.0}, "conv1")
    assert found.layer_rates == {"fc6": 0.5, "conv2.bias": 0.0}
    assert layer_rates.applied(recipe, network, {}, None) is recipe
    own = replace(Recipe(), layer_rates={"conv2.bias": 2.0, "fc6.bias": 2.0})
    found = layer_rates.applied(own, network, {"conv2": 0.5}, None).layer_rates
    assert found == {"conv2": 0.5, "fc6.bias": 2.0}  # conv2's bias would keep its rate of 2
    own = replace(Recipe(), layer_rates={"conv2.bias": 0.0})  # as of a Caffe layer without one
    found = layer_rates.applied(own, network, {"conv2": 0.5}, None).layer_rates
    assert found == {"conv2": 0.5, "conv2.bias": 0.0}
    frozen = replace(Recipe(), layer_rates={"conv2.weight": 0.0, "conv2.bias": 0.0})
    assert layer_rates.applied(frozen, network, {"conv2": 0.5}, None).layer_rates == {"conv2": 0.5}
    found = layer_rates.applied(own, network, {"conv2.bias": 0.5}, None).layer_rates
    assert found == {"conv2.bias": 0.5}
    for name in ("conv9", "relu1", "conv1.slope", "bias"):
        with pytest.raises(InputError, match="unknown layer with parameters"):
            layer_rates.applied(recipe, network, {name: 0.5}, None)
    with pytest.raises(InputError, match="conv1 is frozen"):
        layer_rates.applied(recipe, network, {"conv1.bias": 0.5}, "conv2")


@pytest.mark.parametrize("reshuffle", [True, False])
def test_the_authors_one_order_of_the_images(tmp_path, monkeypatch, reshuffle):
    orders, batches = [], Loader.batches

    def noting(self, order, *arguments, **more):
        if len(order) == 48 and list(order) != sorted(order):  # not the mean image's
            orders.append(tuple(order))
        return batches(self, order, *arguments, **more)

    monkeypatch.setattr(Loader, "batches", noting)
    minialex.train("shapes:48", **SETTINGS, reshuffle=reshuffle, epochs=3, out=tmp_path / "run")
    assert len(set(orders)) == (3 if reshuffle else 1)
