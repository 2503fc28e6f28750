"""Augmented batches and soft targets in a training step, and runs that use them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.tiny import register_tiny
from helpers.tiny import tiny as tiny_network
from safetensors.numpy import load_file

import minialex
from minialex import backends
from minialex.data.augment.warp_draws import Mixing
from minialex.data.loading.loader import Batch
from minialex.data.preprocessing import Preprocessing
from minialex.data.statistics import Statistics
from minialex.errors import InputError
from minialex.models.recipe import Recipe
from minialex.training import augmentation_options
from minialex.training.config import TrainConfig
from minialex.training.feed import Photographs
from minialex.training.targets import SoftTargets, balanced, soft_targets

b = backends.get("numpy")
PAPER = Recipe(resize=16, crop=12)
WARPED = replace(PAPER, crop_scale=0.3, aspect=1.5, rotation=20, contrast=0.3, erasing=0.5)
MIXED = replace(WARPED, mixup=0.4, label_smoothing=0.1, class_weights=True)
TINY = {"model": "tiny", "batch_size": 16, "backend": "numpy", "progress": False}
OPTIONS = {
    "crop_scale": 0.4,
    "rotation": 15,
    "vertical_flip": True,
    "brightness": 0.3,
    "erasing": 0.5,
    "mixup": 0.3,
    "label_smoothing": 0.1,
    "class_weights": True,
}


def preprocessing(recipe, mean=None):
    mean = np.full((16, 16, 3), 100, np.float32) if mean is None else mean
    return Preprocessing(recipe, Statistics(mean, np.array([3.0, 9, 60]), np.eye(3), 1))


def feed(recipe, classes=5, mean=None):
    soft = soft_targets(recipe, np.arange(20) % classes, classes)
    return Photographs(preprocessing(recipe, mean), seed=4, soft=soft)


def batch(n=8, first=0, images=None):
    drawn = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), np.uint8)
    rows = slice(first, first + n)
    images = drawn[rows] if images is None else images
    positions = np.arange(40)[rows]
    return Batch(images, positions % 5, positions, positions, first, first + n)


# ------------------------------------------------------------------------------ targets


def test_smoothing_mixup_and_weights_by_hand():
    soft = SoftTargets(4, smoothing=0.2, weights=np.array([1.0, 2.0, 0.5, 3.0]))
    alone = soft(np.array([1, 3]))
    np.testing.assert_allclose(alone, [[0.1, 1.7, 0.1, 0.1], [0.15, 0.15, 0.15, 2.55]], rtol=1e-6)
    mixing = Mixing(np.array([1, 0]), np.array([0.75, 1.0], np.float32))
    mixed = soft(np.array([1, 3]), mixing)
    np.testing.assert_allclose(mixed[0], 0.75 * alone[0] + 0.25 * alone[1], rtol=1e-6)
    np.testing.assert_array_equal(mixed[1], alone[1])
    assert mixed.dtype == np.float32


def test_weights_balance_the_classes_and_are_1_on_average():
    labels = np.repeat([0, 1, 3], [6, 3, 1])
    weights = balanced(labels, 4)
    np.testing.assert_allclose(weights, [10 / 18, 10 / 9, 0, 10 / 3])
    assert weights[labels].mean() == pytest.approx(1)


def test_a_recipe_without_them_keeps_the_labels_and_the_images():
    plain = feed(PAPER)
    assert plain.targets(batch(), 0).dtype == np.int64
    given = batch()
    assert plain.host_arrays(given, 0, 0.1)["images"] is given.images


def test_a_recipe_with_them_needs_them():
    with pytest.raises(InputError, match="targets"):
        Photographs(preprocessing(MIXED))


# ------------------------------------------------------------------------------ batches


@pytest.mark.parametrize("name", augmentation_options.OF_RECIPE)
def test_every_option_is_off_in_the_paper_and_has_its_row_in_the_docs(name):
    default = getattr(Recipe(), name)
    assert default == {"crop_scale": 1.0, "aspect": 1.0, "augment": ""}.get(name, 0)
    assert getattr(TrainConfig(), name) is None
    page = Path(__file__).parents[2] / "docs" / "howto" / "photographs.md"
    assert f"| `--{name.replace('_', '-')}" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("recipe", [WARPED, MIXED])
def test_devices_get_slices_of_the_batch(recipe):
    inputs = feed(recipe).inputs(batch(), 2, 0.1)
    parts = [inputs(b, first, end) for first, end in ((0, 3), (3, 8))]
    np.testing.assert_array_equal(np.concatenate(parts), inputs(b, 0, 8))
    assert feed(recipe).targets(batch(), 2).shape in ((8,), (8, 5))


def test_the_batch_size_changes_only_mixup_partners():
    whole = feed(WARPED).inputs(batch(), 2, 0.1)(b, 0, 8)
    halves = [feed(WARPED).inputs(batch(4, first), 2, 0.1)(b, 0, 4) for first in (0, 4)]
    np.testing.assert_array_equal(np.concatenate(halves), whole)


def test_images_and_targets_are_mixed_alike():
    """Images of one colour, which tells their label."""
    pictures = np.repeat(np.arange(8) % 5 * 40, 16 * 16 * 3).reshape(8, 16, 16, 3)
    recipe = replace(PAPER, mixup=1.0)
    given = batch(images=pictures.astype(np.uint8))
    x = feed(recipe).inputs(given, 0, 0.0)(b, 0, 8)
    targets = feed(recipe).targets(given, 0)
    np.testing.assert_allclose(x.mean(axis=(1, 2, 3)) + 100, targets @ np.arange(5) * 40, atol=0.6)
    assert (np.sort(targets, axis=1)[:, -2] > 0.02).any()
    assert np.ptp(x, axis=(1, 2, 3)).max() == 0


def test_a_compiled_step_gets_the_same_inputs():
    given, recipe = batch(), replace(MIXED, mean_window="centre", colour_divide=True)
    mean = np.random.default_rng(1).uniform(80, 140, (16, 16, 3)).astype(np.float32)
    made = feed(recipe, mean=mean)
    arrays = {**made.host_arrays(given, 1, 0.1), **made.constants(b)}
    compiled = made.device_input(b, arrays, tiny_network(5))
    np.testing.assert_array_equal(compiled, made.inputs(given, 1, 0.1)(b, 0, 8))


@pytest.mark.parametrize("window", ["crop", "centre"])
def test_the_central_window_of_the_mean_is_subtracted(window):
    """Half of the images are upside-down copies of the mean image."""
    mean = np.random.default_rng(1).integers(0, 256, (16, 16, 3), np.uint8)
    recipe = replace(PAPER, vertical_flip=True, random_crops=False, mean_window=window)
    given = batch(images=np.repeat(mean[None], 8, axis=0))
    x = feed(replace(recipe, mirror=False), mean=mean.astype(np.float32)).inputs(given, 0, 0.0)
    upright = np.abs(x(b, 0, 8)).max(axis=(1, 2, 3)) == 0
    assert 0 < upright.sum() < 8


def test_only_rgb_images_can_be_warped():
    mean = np.zeros((16, 16, 20), np.float32)
    with pytest.raises(InputError, match="20 channels: only RGB images"):
        preprocessing(WARPED, mean)


# ------------------------------------------------------------------------------ runs


@pytest.fixture
def tiny(monkeypatch):
    register_tiny(monkeypatch)


def test_a_resumed_run_ends_with_the_same_bits(tmp_path, tiny):
    settings = {**TINY, **OPTIONS, "epochs": 2}
    whole = minialex.train("shapes:52", **settings, out=tmp_path / "whole")
    minialex.train("shapes:52", **settings, out=tmp_path / "run", max_steps=4)
    minialex.train(out=tmp_path / "run", resume=True, progress=False)
    ours, theirs = (load_file(tmp_path / n / "last.safetensors") for n in ("run", "whole"))
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    recipe = minialex.load(tmp_path / "run").preprocessing.recipe
    assert {name: getattr(recipe, name) for name in OPTIONS} == OPTIONS
    assert whole.history[0]["train_loss"] != whole.history[1]["train_loss"]


def test_two_devices_train_as_one(tmp_path, tiny):
    settings = {**TINY, **OPTIONS, "epochs": 1, "dtype": "float64"}
    one = minialex.train("shapes:52", **settings, out=tmp_path / "one")
    two = minialex.train(
        "shapes:52", **settings, devices="0,1", parallel="data", out=tmp_path / "two"
    )
    assert two.history[0]["train_loss"] == pytest.approx(one.history[0]["train_loss"], rel=1e-9)


def test_the_hinge_loss_is_refused_before_training(tmp_path, tiny):
    with pytest.raises(InputError, match="need the softmax loss"):
        minialex.train("shapes:52", **TINY, loss="hinge", mixup=0.2, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
