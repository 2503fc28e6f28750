"""Ensembles: means, weights, classes in another order, images that a member was trained on."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.untrained import untrained
from PIL import Image

from minialex.data.dataset import Splits, subset
from minialex.data.remarks import Remarks
from minialex.data.sources.open import open_data
from minialex.errors import InputError
from minialex.inference.ensemble import Ensemble, find_weights, load_ensemble
from minialex.inference.evaluation import ranks
from minialex.parallel import DeviceConfig


@pytest.fixture(scope="module")
def members():
    """Two networks with different image sizes."""
    return untrained(1), untrained(2, "cifar10")


@pytest.fixture(scope="module")
def images():
    val = open_data("shapes:48").val
    return [val.image(i, 100) for i in range(len(val))]


@pytest.mark.parametrize("crops", [1, 10])
def test_it_is_the_mean_of_the_softmax_outputs(members, images, crops):
    one, two = (member.probabilities(images[:3], crops) for member in members)
    np.testing.assert_allclose(Ensemble(members).probabilities(images[:3], crops), (one + two) / 2)
    weighted = Ensemble(members, (3.0, 1.0))
    assert weighted.weights == (0.75, 0.25)
    np.testing.assert_allclose(weighted.probabilities(images[:3], crops), 0.75 * one + 0.25 * two)


def test_a_single_network_is_evaluated_as_usual(members):
    alone, ensemble = members[0].evaluate(), Ensemble(members[:1]).evaluate()
    assert ensemble.images == alone.images == 12
    assert (ensemble.top1_error, ensemble.top5_error) == (alone.top1_error, alone.top5_error)
    assert ensemble.loss == pytest.approx(alone.loss)


def test_errors_are_those_of_the_mean(members):
    val = open_data("shapes:48").val
    squares = {size: np.stack([val.image(i, size) for i in range(12)]) for size in (72, 32)}
    ensemble = Ensemble(members, (0.3, 0.7))
    assert ensemble.sizes == (72, 32)
    p = ensemble.probabilities_at(squares)
    result = ensemble.evaluate(batch_size=5)
    assert result.top1_error == np.mean(ranks(p, val.labels) >= 1)
    assert result.top5_error == np.mean(ranks(p, val.labels) >= 5)
    own = p[np.arange(12), val.labels]
    assert result.loss == pytest.approx(-np.log(own).mean(), rel=1e-4)
    for part in ("mean of 2 networks", "weights 0.3, 0.7", "alexnet-64", "cifar10", "1 crop"):
        assert part in result.recipe_line


def test_classes_follow_the_first_members_order(members, images):
    order = np.arange(12)[::-1]
    one = members[0]
    params = {name: dict(of) for name, of in one.params.items()}
    params["fc8"] = {key: value[..., order] for key, value in params["fc8"].items()}
    turned = replace(
        one,
        params=params,
        class_names=tuple(one.class_names[k] for k in order),
        class_ids=tuple(one.class_ids[k] for k in order),
    )
    ensemble = Ensemble((one, turned))
    np.testing.assert_allclose(
        ensemble.probabilities(images[:2]), one.probabilities(images[:2]), rtol=1e-5
    )
    assert ensemble.evaluate().loss == pytest.approx(one.evaluate().loss, rel=1e-5)
    assert ensemble.predict(images[0])[0][0].name == one.predict(images[0])[0][0].name


def test_an_image_unreadable_at_one_size_is_left_out_for_all(members):
    class Odd:
        def __init__(self, whole):
            self.whole = whole

        def __getattr__(self, name):
            return getattr(self.whole, name)

        def __len__(self):
            return len(self.whole)

        @property
        def remarks(self):
            return Remarks(lacking=["a class lacks images"])

        def image(self, index, size):
            if (index, size) in ((2, 72), (7, 32)):
                raise InputError(f"no image {index} of {size}")
            return self.whole.image(index, size)

    result = Ensemble(members).evaluate(Odd(open_data("shapes:48").val))
    assert result.images == 10
    assert len(result.skipped) == 2
    assert result.remarks == ("a class lacks images",)
    assert "2 unreadable images skipped; a class lacks images" in str(result)
    found = Ensemble(members).with_found_weights(Odd(open_data("shapes:48").val))
    assert found.note == "10 images, 2 unreadable ones left out; a class lacks images"


def test_without_images_no_weights_are_found(members, monkeypatch):
    none = open_data("shapes:48")
    none = Splits(none.train, subset(none.val, []))
    one = members[0]
    for judge in (one.evaluate, Ensemble(members).evaluate, Ensemble(members).with_found_weights):
        with pytest.raises(InputError, match="shapes has no validation images to evaluate on"):
            judge(none)

    read = type(none.train).image

    def unreadable(self, index, size):
        if (index, size) in ((0, 72), (1, 32)):
            raise InputError(f"no image {index} of {size}")
        return read(self, index, size)

    monkeypatch.setattr(type(none.train), "image", unreadable)
    with pytest.raises(InputError, match="none of the images to find the weights on can be read"):
        Ensemble(members).with_found_weights(subset(none.train, [0, 1]))


def test_found_weights_prefer_the_better_network():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 20, 100)
    good = rng.random((100, 20))
    good[np.arange(100), labels] += 0.4
    bad = 10 * rng.random((100, 20))
    one, two = find_weights([good, bad], labels)
    assert 0 <= two < 0.1 * one

    def wrong(weights):
        p = weights[0] * good + weights[1] * bad
        return np.mean(ranks(p, labels) >= 5)

    assert wrong((one, two)) < wrong((0.5, 0.5))
    for value in (one, two):
        assert value == pytest.approx(round(value / 0.05) * 0.05)


def test_equal_networks_keep_equal_weights():
    p = np.eye(8)
    assert find_weights([p, p], np.arange(8)) == (0.5, 0.5)


def test_found_weights_make_an_ensemble(members):
    found = Ensemble(members).with_found_weights("shapes:80")
    assert found.note == "20 images"
    assert sum(found.weights) == pytest.approx(1)
    before, after = (e.evaluate("shapes:80") for e in (Ensemble(members), found))
    assert after.top5_error <= before.top5_error
    assert before.note == ""
    assert after.note.startswith("the weights were found on 20 of these 20 images")


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        ((1.0,), "1 weights for 2 networks"),
        ((0.0, 0.0), "all weights are 0"),
        ((1.0, -1.0), r"a weight is -1.0: it must be a number of at least 0"),
        ((1.0, float("nan")), "a weight is nan: it must be finite"),
        (("1", "one"), "a weight is '1': it must be a number"),
    ],
)
def test_invalid_weights_are_refused(members, weights, sentence):
    with pytest.raises(InputError, match=sentence):
        Ensemble(members, weights)


def test_networks_with_different_classes_are_refused(members):
    other = replace(members[0], class_ids=("cat", *members[0].class_ids[1:]))
    with pytest.raises(InputError, match=r"have different classes .*cat"):
        Ensemble((members[0], other))
    with pytest.raises(InputError, match="at least one network"):
        Ensemble(())
    with pytest.raises(InputError, match=r"a member is 'runs/a': it must be a classifier"):
        Ensemble((members[0], "runs/a"))


def test_images_that_a_member_was_trained_on_are_refused(members, tmp_path):
    ids = members[0].class_ids
    rng = np.random.default_rng(0)
    for name in ids:
        (tmp_path / name).mkdir()
        for i in range(3):
            pixels = rng.integers(0, 255, (72, 72, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    where = {"data": str(tmp_path), "val_fraction": 0.3}
    one, two, same = (
        replace(members[0], data={**where, "seed": seed}) for seed in (1, 2, 1)
    )  # fmt: skip
    for data in (None, tmp_path):
        with pytest.raises(InputError, match="network 2 was trained on images"):
            Ensemble((one, two)).evaluate(data)
        assert Ensemble((one, same)).evaluate(data).images == 12
    with pytest.raises(InputError, match="was trained on other data"):
        Ensemble((members[0], one)).evaluate()


def test_from_weight_files(members, images, tmp_path):
    paths = []
    for i, member in enumerate(members):
        paths.append(tmp_path / f"{i}.safetensors")
        member.save(paths[-1])
    loaded = load_ensemble(paths, [1, 3], DeviceConfig("numpy"))
    wanted = Ensemble(members, (1, 3)).probabilities(images[:2])
    np.testing.assert_allclose(loaded.probabilities(images[:2]), wanted)
