"""Frozen layers, and the learning rates of transferred layers."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.tiny import register_tiny
from safetensors.numpy import load_file

import minialex
from minialex import models
from minialex.errors import InputError
from minialex.layers import Dense
from minialex.training import fitted_recipe, frozen, setup
from minialex.training.trainer import Trainer

ALEXNET = models.get("alexnet-64", 10).network
TINY = {"backend": "numpy", "batch_size": 16, "progress": False}


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    register_tiny(monkeypatch)


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    return minialex.train("shapes:48", model="tiny", epochs=1, out=folder, **TINY).run_dir


def weights(folder):
    return load_file(folder / "last.safetensors")


@pytest.mark.parametrize(
    ("name", "last"), [("conv5", "pool5"), ("pool1", "pool1"), ("conv1", "pool1"), ("fc7", "relu7")]
)
def test_layers_without_weights_freeze_with_their_neighbours(name, last):
    assert frozen.last_frozen(ALEXNET, name) == last
    first = ALEXNET.after(last).layers[0][0]
    assert first in ("fc6", "conv2", "drop7")


@pytest.mark.parametrize(
    ("name", "words"), [("fc8", "leaves no layer to train"), ("fc9", "unknown layer 'fc9'")]
)
def test_layers_that_cannot_be_frozen_are_refused(name, words):
    with pytest.raises(InputError, match=words):
        frozen.last_frozen(ALEXNET, name)


def test_dropout_among_the_frozen_layers_only_is_refused(source, tmp_path):
    """With one more layer, the tiny network's only dropout is before the last two."""
    network = models.get("tiny", 12).network
    *layers, last = network.layers
    deeper = replace(network, layers=(*layers, ("fc7", Dense(8)), last))
    with pytest.raises(InputError, match="`dropout` has no effect with `freeze='fc7'`"):
        setup._require_dropout("fc7", deeper)
    start = {"initial": source, "freeze": "fc6", "epochs": 1, "out": tmp_path / "run"}
    minialex.train("shapes:48", **start, **TINY, dropout=True)


@pytest.mark.parametrize("averaged", [0, 2])
def test_frozen_layers_keep_their_bits_and_the_others_learn(source, tmp_path, averaged):
    first, *_, last = models.get("tiny", 12).network.parameter_shapes()
    given = {**TINY, "initial": source, "epochs": 2, "replace_classifier": True}
    given |= {"average_epochs": averaged, "lr": 0.05}
    result = minialex.train("shapes:48", freeze=first, out=tmp_path / "run", **given)
    before, after = weights(source), weights(tmp_path / "run")
    assert np.array_equal(before[f"{first}.weight"], after[f"{first}.weight"])
    assert not np.array_equal(before[f"{last}.weight"], after[f"{last}.weight"])
    best = min(result.history, key=lambda row: row["val_loss"])
    evaluation = minialex.load(tmp_path / "run").evaluate()
    assert evaluation.loss == pytest.approx(best["val_loss"], rel=1e-5)
    assert evaluation.top1_error == best["val_top1_error"]
    last = result.classifier.evaluate()  # the mean, if there is one
    assert last.loss == pytest.approx(result.history[-1]["val_loss"], rel=1e-5)


def test_a_stopped_and_resumed_frozen_run_ends_with_the_same_bits(source, tmp_path):
    first = next(iter(models.get("tiny", 12).network.parameter_shapes()))
    given = {**TINY, "initial": source, "epochs": 2, "freeze": first}
    minialex.train("shapes:48", out=tmp_path / "whole", **given)
    minialex.train("shapes:48", out=tmp_path / "parts", max_steps=4, **given)
    minialex.train(out=tmp_path / "parts", resume=True, progress=False)
    ours, theirs = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_each_epoch_sees_different_crops():
    values = np.arange(10 * 5.0).reshape(10, 5, 1).astype(np.float32)
    features = frozen.Features(values, np.array([True, True, False, True, True]), {"2": "broken"})
    loader = frozen.FeatureLoader(features, np.arange(5))
    order = np.array([4, 2, 0, 1, 3])
    [one, two] = loader.batches(order, 3)
    assert (one.indices.tolist(), one.positions.tolist(), one.end) == ([4, 0], [0, 2], 3)
    assert (two.indices.tolist(), two.end) == ([1, 3], 5)
    feed = frozen.FeatureFeed("float32", features, seed=1)
    b = minialex.backends.get("numpy")
    seen = [feed.inputs(two, epoch, 0.0)(b, 0, 2)[:, 0] for epoch in range(40)]
    assert all(set(np.mod(x, 5)) == {1.0, 3.0} for x in seen)  # their own images
    assert len({float(x[0]) for x in seen}) == 10  # every crop
    again = feed.inputs(two, 7, 0.0)(b, 1, 2)[:, 0]
    assert again == seen[7][1]


@pytest.mark.parametrize(
    ("given", "views"),
    [
        ({}, 10),
        ({"mirror": False}, 5),
        ({"crops": False}, 2),
        ({"mirror": False, "crops": False}, 1),
    ],
)
def test_frozen_layers_see_the_crops_of_training(source, tmp_path, capsys, given, views):
    """Digits are not to be mirrored, whether their layers are frozen or not."""
    start = {"initial": source, "freeze": "conv1", "epochs": 1, "out": tmp_path / "run"}
    minialex.train("shapes:48", **start, **{**TINY, "progress": True}, **given)
    assert f"frozen: {views} crop{'s' * (views > 1)} of each image" in capsys.readouterr().out


@pytest.mark.parametrize("given", [{"rotation": 10}, {"brightness": 0.2}, {"mixup": 0.2}])
def test_other_changes_of_images_are_refused(source, tmp_path, given):
    start = {"initial": source, "freeze": "conv1", "epochs": 1, "out": tmp_path / "run"}
    with pytest.raises(InputError, match=f"`{next(iter(given))}` cannot be used with frozen"):
        minialex.train("shapes:48", **start, **TINY, **given)
    with pytest.raises(InputError, match="`colour_noise` has no effect with `freeze`"):
        minialex.train("shapes:48", **start, **TINY, colour_noise=0.1)
    unchanged = {"crop_scale": 1.0, "colour_noise": 0.0, "brightness": 0.0, "label_smoothing": 0.1}
    minialex.train("shapes:48", **start, **TINY, **unchanged)


def test_transferred_layers_learn_more_slowly():
    recipe = models.get("alexnet-64", 10).recipe
    kept = [name for name in ALEXNET.parameter_shapes() if name != "fc8"]
    tuned = fitted_recipe.fine_tuned(recipe, ALEXNET, kept)
    assert tuned.layer_rates == dict.fromkeys(kept, fitted_recipe.KEPT_RATE)
    assert (
        fitted_recipe.fine_tuned(recipe, ALEXNET, [*kept, "fc8"]).lr
        == recipe.lr * fitted_recipe.KEPT_RATE
    )
    own = replace(recipe, layer_rates={"conv1.weight": 2.0, "fc8.bias": 2.0})
    tuned = fitted_recipe.fine_tuned(own, ALEXNET, kept).layer_rates
    assert tuned["conv1.weight"] == 2.0 * tuned["conv1"]  # a parameter's comes before a layer's
    assert tuned["fc8.bias"] == 2.0
    by_adam = replace(recipe, optimizer="adam")
    assert fitted_recipe.fine_tuned(by_adam, ALEXNET, kept).layer_rates == {}


def test_freeze_needs_weights_to_start_from():
    with pytest.raises(InputError, match="give the weights to start from"):
        minialex.train("shapes:48", model="tiny", freeze="conv1")


def test_a_frozen_run_recovers_good_weights(source, tmp_path, monkeypatch, capsys):
    first, *_, last = models.get("tiny", 12).network.parameter_shapes()
    rates = Trainer.rates

    def spoiling(self, state, position):
        if state.step == 5 and state.attempts == 0:  # in the second epoch: the first is the best
            state.params[last]["weight"][...] = np.nan
        return rates(self, state, position)

    monkeypatch.setattr(Trainer, "rates", spoiling)
    given = {**TINY, "initial": source, "epochs": 3, "freeze": first, "progress": True}
    result = minialex.train("shapes:48", out=tmp_path / "run", **given)
    assert "back to the best weights, learning rate times 0.3" in capsys.readouterr().out
    assert len(result.history) == 3
    before, after = weights(source), weights(tmp_path / "run")
    assert np.array_equal(before[f"{first}.weight"], after[f"{first}.weight"])
    assert np.isfinite(after[f"{last}.weight"]).all()


def test_frozen_layers_need_a_single_device(source, tmp_path):
    given = {**TINY, "initial": source, "freeze": "conv1", "devices": (0, 1)}
    with pytest.raises(InputError, match="freeze needs a single device"):
        minialex.train("shapes:48", out=tmp_path / "run", **given)
