"""A batch as the network sees it."""

from dataclasses import replace

import numpy as np
import pytest

from minialex import backends
from minialex.data.loading.loader import Batch
from minialex.data.preprocessing import Preprocessing
from minialex.data.statistics import Statistics
from minialex.models.recipe import Recipe
from minialex.training import preview
from minialex.training.feed import Photographs
from minialex.training.targets import soft_targets

PAPER = Recipe(resize=16, crop=12)
NAMES = ("rose", "tulip", "éléphant")


def made(recipe):
    mean = np.random.default_rng(1).integers(80, 140, (16, 16, 3)).astype(np.float32)
    found = Preprocessing(recipe, Statistics(mean, np.array([3.0, 9, 60]), np.eye(3), 1))
    return Photographs(found, seed=4, soft=soft_targets(recipe, np.arange(9) % 3, 3))


def batch(n):
    images = np.random.default_rng(0).integers(60, 190, (n, 16, 16, 3), np.uint8)
    positions = np.arange(n)
    return Batch(images, positions % 3, positions, positions, 0, n)


@pytest.mark.parametrize("changed", [{}, {"crop_scale": 0.4, "rotation": 20, "erasing": 0.5}])
def test_preview_pixels_are_the_networks_input_plus_the_mean(changed):
    """A recipe whose mean is one colour, so that it does not depend on the crop."""
    feed, given = made(replace(PAPER, mean_window="colour", **changed)), batch(8)
    x = feed.inputs(given, 2, 0.1)(backends.get("numpy"), 0, 8)
    wanted = np.clip(x + feed.preprocessing.mean[0, 0], 0, 255)
    assert np.abs(preview.augmented(feed, given, 2) - wanted).max() < 0.51


def test_the_captions_name_the_mixed_classes():
    feed, given = made(replace(PAPER, mixup=1.0)), batch(9)
    names = preview.names(feed, given, NAMES, 0)
    assert any(len(two) == 2 and two[0][0].isdigit() for two in names)
    targets = feed.targets(given, 0)
    assert [two[0].split()[-1] for two in names] == [NAMES[k] for k in targets.argmax(axis=1)]
    assert preview.names(made(PAPER), given, NAMES, 0)[:3] == [["rose"], ["tulip"], ["éléphant"]]
