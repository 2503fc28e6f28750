"""Parts and unions of data sets."""

import numpy as np
from helpers.cli_tools import photos

from minialex.data.sources.open import open_data
from minialex.experiments.data import balanced_subset, open_subset


def test_a_subset_is_balanced_and_always_the_same():
    whole = open_data("shapes:120").train
    some = balanced_subset(whole, 26)
    assert sorted(np.bincount(some.labels, minlength=12)) == [2] * 10 + [3] * 2
    assert np.array_equal(some.indices, balanced_subset(whole, 26).indices)
    assert balanced_subset(whole, 500) is whole


def test_training_images_can_serve_as_validation():
    data = open_subset("shapes:48", None, None).evaluated_on_training(24)
    index = int(data.splits.val.indices[5])
    assert np.array_equal(data.splits.val.image(5, 16), data.splits.train.image(index, 16))
    assert (data.key["val"], data.key["judged_on"]) == (24, "training images")


def test_joined_sets_have_the_classes_of_both(tmp_path):
    first = open_subset(str(photos(tmp_path / "pets")), None, None)
    second = open_subset("shapes:48", None, 12)
    both = first.joined_with(second)
    train = both.splits.train
    assert len(train.class_ids) == 14
    assert list(train.class_ids) == sorted(train.class_ids)
    for i in (0, len(first.splits.train), len(train) - 1):
        of, j = (first, i) if i < len(first.splits.train) else (second, i - len(first.splits.train))
        assert (
            train.class_ids[train.labels[i]] == of.splits.train.class_ids[of.splits.train.labels[j]]
        )
        assert np.array_equal(train.image(i, 32), of.splits.train.image(j, 32))
    assert both.key != first.key
    assert first.joined_with(first).splits.train.class_ids == first.splits.train.class_ids


def test_kept_images_are_the_same_and_read_once():
    data = open_subset("shapes:48", None, 12)
    kept = data.in_memory().train
    assert np.array_equal(kept.image(7, 24), data.splits.train.image(7, 24))
    assert kept.image(7, 24) is kept.image(7, 24)
    assert kept.image(7, 16).shape == (16, 16, 3)
    assert np.array_equal(kept.labels, data.splits.train.labels)
