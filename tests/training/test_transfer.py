"""A run that starts from other weights: what is transferred, what is initialised, resuming."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.untrained import untrained
from PIL import Image
from safetensors.numpy import load_file

import minialex
from minialex import backends, models
from minialex.data.sources.open import open_data
from minialex.data.statistics import measure
from minialex.errors import InputError
from minialex.training import transfer
from minialex.training.config import TrainConfig
from minialex.training.fitted_recipe import ADAM_RATE
from minialex.training.transfer import start_from

pytestmark = pytest.mark.usefixtures("slim_networks")

SMALL = {"batch_size": 16, "epochs": 1, "progress": False, "seed": 5, "lr": 0.01}


@pytest.fixture(scope="module")
def before(tmp_path_factory, slim_networks):
    """A run of one step, whose weights differ from any run's initial ones."""
    folder = tmp_path_factory.mktemp("before") / "run"
    options = {**SMALL, "model": "alexnet-64", "model_options": {"towers": 1}, "seed": 1}
    return minialex.train("shapes:48", **options, out=folder)


@pytest.fixture(scope="module")
def two_classes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    rng = np.random.default_rng(0)
    for k, name in enumerate(("dark", "light")):
        (folder / name).mkdir()
        for i in range(8):
            pixels = rng.integers(128 * k, 128 * k + 128, (80, 80, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


def same(a, b) -> bool:
    return all(np.array_equal(a[key], b[key]) for key in a)


def test_weights_and_network_are_transferred(before, tmp_path):
    still = {**SMALL, "lr": 1e-9, "initial": before.run_dir, "out": tmp_path / "run"}
    run = minialex.train("shapes:48", **still, max_steps=1)
    assert run.classifier.model.name == "alexnet-64"
    assert run.classifier.model.options == {"towers": 1}
    start = start_from(before.classifier, run.classifier.model.network)
    assert start.said.endswith("fc8 transferred")
    for layer, of_layer in before.classifier.params.items():
        assert same(of_layer, start.params[layer])
        for key, value in of_layer.items():
            np.testing.assert_allclose(run.classifier.params[layer][key], value, atol=1e-6)


def test_a_network_trained_without_dropout_is_fine_tuned_without_it(before, tmp_path):
    """With it, the dense layers would see inputs of another scale; only a request adds it."""
    network = before.classifier.model.network
    run = tmp_path / "plain"
    plain = minialex.train("shapes:48", **SMALL, initial=before.run_dir, dropout=False, out=run)
    assert plain.classifier.model.network == network.without_dropout() != network
    given = {**SMALL, "initial": run, "max_steps": 1}
    tuned = minialex.train("shapes:48", **given, out=tmp_path / "tuned")
    assert tuned.classifier.model.network == network.without_dropout()
    assert minialex.load(tuned.run_dir).model.network == network.without_dropout()
    asked = minialex.train("shapes:48", **given, dropout=True, out=tmp_path / "asked")
    assert asked.classifier.model.network == network


def test_weights_that_adam_trained_are_fine_tuned_by_adam(two_classes, tmp_path):
    """All layers at one rate: Adam's updates do not grow with a new layer's large gradients."""
    given = {"batch_size": 16, "epochs": 1, "progress": False, "max_steps": 1}
    by_adam = minialex.train("shapes:48", model="alexnet-64", **given, out=tmp_path / "adam")
    given |= {"initial": by_adam.run_dir, "replace_classifier": True}

    def recipe(name, **more):
        run = minialex.train(two_classes, **given, **more, out=tmp_path / name)
        return run.classifier.preprocessing.recipe

    tuned = recipe("tuned")
    assert (tuned.optimizer, tuned.layer_rates, tuned.lr) == ("adam", {}, ADAM_RATE)
    for name, more in {"lr": {"lr": 0.01}, "momentum": {"momentum": 0.8}}.items():
        assert recipe(name, **more).optimizer == "sgd"
    assert recipe("published", recipe="published").optimizer == "sgd"
    config = json.loads((tmp_path / "tuned" / "config.json").read_text())
    assert config["settings"]["optimizer"] is None  # what was asked for
    resumed = minialex.train(resume=tmp_path / "tuned", progress=False, max_steps=2)
    assert resumed.classifier.preprocessing.recipe == tuned


def test_a_new_last_layer_for_other_classes(before, two_classes, tmp_path, capsys):
    options = {**SMALL, "progress": True}
    run = minialex.train(
        two_classes, **options, initial=before.run_dir / "last.safetensors",
        replace_classifier=True, out=tmp_path / "run",
    )  # fmt: skip
    assert run.classifier.class_names == ("dark", "light")
    output = capsys.readouterr().out
    assert "fc7 transferred, fc8 reinitialised" in output
    assert "labels may leak" not in output
    network = run.classifier.model.network
    start = start_from(before.classifier, network, replace_classifier=True, seed=5)
    drawn = network.init(backends.get("numpy"), 5)
    assert same(start.params["fc8"], drawn["fc8"])
    assert same(start.params["fc7"], before.classifier.params["fc7"])


def test_replacing_reinitialises_even_with_equally_many_classes(before):
    network = before.classifier.model.network
    start = start_from(before.classifier, network, replace_classifier=True)
    assert not same(start.params["fc8"], before.classifier.params["fc8"])


def test_the_mean_image_is_that_of_the_new_data(before, two_classes, tmp_path):
    run = minialex.train(
        two_classes, **SMALL, initial=before.run_dir, replace_classifier=True, out=tmp_path / "run"
    )
    measured = measure(open_data(two_classes, seed=5).train, 72)
    used = run.classifier.preprocessing.statistics
    np.testing.assert_array_equal(used.mean, measured.mean)
    assert not np.array_equal(used.mean, before.classifier.preprocessing.statistics.mean)


def test_a_sixth_convolution_keeps_the_first_five(before):
    network = models.get("alexnet-64-six", 12, towers=1).network
    start = start_from(before.classifier, network, seed=5)
    drawn = network.init(backends.get("numpy"), 5)
    for name in ("conv1", "conv5"):
        assert same(start.params[name], before.classifier.params[name])
    for name in ("conv6", "fc6", "fc7", "fc8"):  # fc6 has the same shape, and other inputs
        assert same(start.params[name], drawn[name])


def test_nothing_is_transferred_after_a_layer_of_another_shape(before):
    network = models.get("alexnet-64", 12, towers=2).network
    start = start_from(before.classifier, network, seed=5)
    drawn = network.init(backends.get("numpy"), 5)
    assert start.said.startswith("conv1 transferred, conv2, conv3")
    assert same(start.params["conv1"], before.classifier.params["conv1"])
    for name in ("conv2", "conv3", "fc8"):  # conv3 and fc8 have the same shapes
        assert same(start.params[name], drawn[name])


def test_it_resumes_to_the_same_bits_without_the_first_weights(before, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    gone = Path("gone")
    shutil.copytree(before.run_dir, gone)
    options = {**SMALL, "initial": gone, "replace_classifier": True, "epochs": 2}
    minialex.train("shapes:48", **options, out=tmp_path / "whole")
    minialex.train("shapes:48", **options, out=tmp_path / "run", max_steps=2)
    shutil.rmtree(gone)
    minialex.train("shapes:48", **options, out=tmp_path / "run", resume=True)
    ours, theirs = (load_file(tmp_path / n / "last.safetensors") for n in ("run", "whole"))
    assert ours.keys() == theirs.keys()
    assert same(ours, theirs)
    options["replace_classifier"] = False
    with pytest.raises(InputError, match="replace_classifier=True, not False"):
        minialex.train("shapes:48", **options, out=tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "12 output classes, the data set 2: use `replace_classifier=True`"),
        ({"model": "cifar10", "replace_classifier": True}, "do not fit the first layer"),
        ({"initial": None, "replace_classifier": True}, "needs `initial`"),
    ],
)
def test_weights_that_do_not_fit_are_refused(before, two_classes, tmp_path, options, sentence):
    given = {**SMALL, "initial": before.run_dir, "allow_upscaling": True, **options}
    with pytest.raises(InputError, match=sentence):
        minialex.train(two_classes, **given, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("factors", [None, (0.25,) * 3])
def test_weights_for_scaled_input_need_a_network_that_scales_it(factors):
    """The layer has no parameters; without it, conv1 would see inputs twice as large."""
    options = {"input_scale": factors} if factors else {}
    source = untrained(0, "alexnet-torchvision", input_scale=[0.5] * 3)
    network = models.get("alexnet-torchvision", 12, **options).network
    with pytest.raises(InputError, match=r"expect input times 0.5, 0.5, 0.5, and the network"):
        start_from(source, network)
    assert start_from(source, source.model.network).said.endswith("fc8 transferred")


def test_the_scale_of_the_input_comes_with_the_weights():
    """If the named network can have it."""
    scale = (0.5,) * 3
    config = TrainConfig(model="alexnet-torchvision")
    assert transfer._with_input_scale(config, scale).model_options == {"input_scale": [0.5] * 3}
    assert transfer._with_input_scale(config, None) == config
    for given in ({"model": "alexnet"}, {"model": "vgg-11", "model_options": {"input_scale": [2]}}):
        config = TrainConfig(**given)
        assert transfer._with_input_scale(config, scale) == config


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        minialex.train("shapes:48", **SMALL, initial=tmp_path / "none", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_equally_many_other_classes_are_not_confused(before):
    names = before.classifier.class_names
    others = (*names[:3], "another", *names[4:])
    network = before.classifier.model.network
    start_from(before.classifier, network, class_names=names)
    start_from(before.classifier, network, class_names=others, replace_classifier=True)
    with pytest.raises(InputError, match=f"{names[3]!r} where the data set has 'another'"):
        start_from(before.classifier, network, class_names=others)
    ids = before.classifier.class_ids  # the same folders, whose names have since become readable
    start_from(before.classifier, network, class_names=others, class_ids=ids)
    with pytest.raises(InputError, match="where the data set has 'another'"):
        start_from(before.classifier, network, class_names=others, class_ids=others)


def test_classes_that_are_numbers_are_matched_by_name():
    numbers = tuple(map(str, range(12)))
    source = replace(untrained(name="cifar10"), class_names=numbers, class_ids=numbers)
    other = tuple(sorted(numbers))
    with pytest.raises(InputError, match="has class '2' where the data set has '10'"):
        start_from(source, source.model.network, class_names=other, class_ids=other)
    source = replace(source, data={})  # of another program, whose classes have no names
    start_from(source, source.model.network, class_names=other, class_ids=other)
