"""Ranks, ten crops, every image counted exactly once; saving and loading a classifier."""

import math
from dataclasses import replace

import numpy as np
import pytest
from helpers.tiny import photographs
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import minialex
from minialex import backends, models
from minialex.data.preprocessing import Preprocessing
from minialex.data.sources.open import open_data
from minialex.data.statistics import measure
from minialex.errors import InputError
from minialex.inference.classifier import Classifier, load
from minialex.inference.ensemble import Ensemble
from minialex.inference.evaluation import (
    accuracy_interval,
    evaluate_model,
    evaluate_probabilities,
    ranks,
)
from minialex.inference.judged_images import data_key
from minialex.inference.trained_model import softmax
from minialex.parallel import SingleDevice
from minialex.utils import checkpoint


@pytest.fixture(scope="module")
def splits():
    return open_data("shapes:48")


@pytest.fixture(scope="module")
def classifier(splits):
    """An untrained alexnet-64 with large last-layer weights, so that predictions differ."""
    b = backends.get("numpy")
    model = models.get("alexnet-64", 12)
    params = model.network.init(b, seed=5)
    params["fc8"]["weight"] *= 100
    preprocessing = Preprocessing(model.recipe, measure(splits.train, 72))
    names = splits.train.class_names, splits.train.class_ids
    data = {"data": "shapes:48", "seed": 0, "val_fraction": 0.1}
    devices = SingleDevice(model.network, b)
    return Classifier(model, params, preprocessing, *names, devices, data)


@given(st.integers(2, 7), st.integers(0, 2**32 - 1))
def test_rank_is_the_position_in_a_stable_sort(classes, seed):
    rng = np.random.default_rng(seed)
    p = rng.integers(0, 3, (5, classes)) / 3  # with many ties
    labels = rng.integers(0, classes, 5)
    order = np.argsort(-p, axis=1, kind="stable")
    wanted = [list(row).index(label) for row, label in zip(order, labels, strict=True)]
    assert ranks(p, labels).tolist() == wanted


def test_equal_scores_are_not_a_perfect_score():
    labels = np.arange(10)
    assert np.mean(ranks(np.full((10, 10), 0.1), labels) >= 1) == 0.9


def test_a_nan_is_never_right():
    p = np.full((2, 10), np.nan)
    assert (ranks(p, np.array([0, 9])) >= 5).all()


@pytest.mark.parametrize("batch_size", [1, 5, 12, 100])
def test_every_image_counts_once_for_any_batch_size(classifier, splits, batch_size):
    evaluation = classifier.evaluate(splits, batch_size=batch_size)
    squares = np.stack([splits.val.image(i, 72) for i in range(12)])
    p = classifier.probabilities(list(squares))
    wrong = np.mean(np.argmax(p, axis=1) != splits.val.labels)
    assert evaluation.images == 12
    assert evaluation.top1_error == pytest.approx(wrong)
    own = p[np.arange(12), splits.val.labels]
    assert evaluation.loss == pytest.approx(-np.mean(np.log(own)), rel=1e-4)


def test_ten_crops_are_the_mean_over_corners_centre_and_mirrors(classifier, splits):
    square = splits.val.image(0, 72)
    x = square.astype(np.float32) - classifier.preprocessing.statistics.mean
    b, network = classifier.devices.backends[0], classifier.model.network
    views = []
    for top, left in ((0, 0), (0, 8), (4, 4), (8, 0), (8, 8)):
        view = x[top : top + 64, left : left + 64]
        views += [view, view[:, ::-1]]
    wanted = b.softmax(network.infer(b, classifier.params, np.stack(views))).mean(axis=0)
    ours = classifier.trained.probabilities(square[None], crops=10)
    np.testing.assert_allclose(ours[0], wanted, rtol=1e-4)
    assert len(set(classifier.preprocessing.views(10))) == 10


@pytest.fixture(scope="module")
def unmirrored(classifier):
    """The same network, trained without mirroring."""
    recipe = replace(classifier.preprocessing.recipe, mirror=False)
    statistics = classifier.preprocessing.statistics
    return replace(classifier, preprocessing=Preprocessing(recipe, statistics))


def test_crops_are_not_mirrored_if_training_was_without_mirroring(unmirrored, splits, tmp_path):
    """Left and right may differ, as in digits: five crops, also of a stored network."""
    unmirrored.save(tmp_path / "net.safetensors")
    stored = load(tmp_path / "net.safetensors", backend="numpy")
    model, square = stored.trained, splits.val.image(0, 72)[None]
    places = ((0, 0), (0, 8), (4, 4), (8, 0), (8, 8))
    scores = [model.scores(square, (top, left, False)) for top, left in places]
    wanted = np.mean([softmax(one) for one in scores], axis=0)
    np.testing.assert_allclose(stored.probabilities(list(square), crops=10), wanted)
    np.testing.assert_allclose(
        stored.probabilities(list(square)), unmirrored.probabilities(list(square), crops=1)
    )


def test_an_evaluation_says_that_crops_are_not_mirrored(unmirrored, splits):
    centre, five = (unmirrored.evaluate(splits, crops=crops) for crops in (1, 10))
    assert (centre.crops, five.crops) == (1, 5)
    assert five.recipe_line.endswith("5 crops")
    assert "5 crops, not mirrored: the network was trained without mirroring" in str(five)
    assert "mirror" not in str(centre)


def test_each_network_of_an_ensemble_has_the_crops_of_its_training(classifier, unmirrored, splits):
    square = [splits.val.image(0, 72)]
    both = Ensemble((classifier, unmirrored))
    wanted = (classifier.probabilities(square, 10) + unmirrored.probabilities(square, 10)) / 2
    np.testing.assert_allclose(both.probabilities(square, 10), wanted)
    mixed, five = both.evaluate(splits, 10), Ensemble((unmirrored, unmirrored)).evaluate(splits, 10)
    assert mixed.crops == 10
    assert "5 crops, not mirrored, for 1 of the networks" in mixed.note
    assert five.crops == 5
    assert "5 crops, not mirrored: the networks were trained without mirroring" in five.note


def test_unsupported_numbers_of_crops_are_refused(classifier):
    with pytest.raises(InputError, match="1 crop or 10, not 5"):
        classifier.predict(np.zeros((72, 72, 3), np.uint8), crops=5)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"data": 3}, "data is 3: it must be a folder's path, a data set or Splits"),
        ({"data": b"photos"}, "data is b'photos'"),
        ({"data": ["photos"]}, "data is ..photos"),
        ({"crops": None}, "1 crop or 10, not None"),
        ({"workers": "2"}, "workers is '2': it must be a whole number"),
        ({"workers": 1.5}, "workers is 1.5"),
        ({"batch_size": 0}, "batch_size is 0"),
    ],
)
def test_a_wrong_argument_of_evaluate_is_refused(classifier, splits, several, arguments, sentence):
    network = Ensemble((classifier, classifier)) if several else classifier
    with pytest.raises(InputError, match=sentence):
        network.evaluate(**{"data": splits, **arguments})


def test_the_recipe_line_is_printed_with_the_accuracy(classifier, splits):
    text = str(classifier.evaluate(splits, crops=10))
    for part in ("alexnet-64", "resize 72", "crop 64", "minus mean image", "10 crops", "12 images"):
        assert part in text


def test_predict_takes_paths_pillow_images_and_arrays(classifier, splits, tmp_path):
    square = splits.val.image(3, 72)
    Image.fromarray(square).save(tmp_path / "a.png")
    results = [
        classifier.predict(given)[0]
        for given in (tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(square), square)
    ]
    assert all(result == results[0] for result in results)
    assert len(results[0]) == 5
    assert [g.probability for g in results[0]] == sorted(
        (g.probability for g in results[0]), reverse=True
    )
    assert sum(g.probability for g in classifier.predict(square, top=12)[0]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (np.zeros((8, 8, 3), np.float32), "uint8"),
        (np.zeros((8, 8, 5), np.uint8), "shape"),
        ([], "no image was given"),
    ],
)
def test_non_images_are_refused(classifier, image, sentence):
    with pytest.raises(InputError, match=sentence):
        classifier.predict(image)


def test_features_are_the_last_hidden_layer(classifier, splits):
    features = classifier.features([splits.val.image(i, 72) for i in range(3)])
    assert features.shape == (3, 1024)
    assert (features >= 0).all()
    b = classifier.devices.backends[0]
    last = classifier.params["fc8"]
    p = b.softmax(features * 0.5 @ last["weight"] + last["bias"])
    wanted = classifier.probabilities([splits.val.image(i, 72) for i in range(3)])
    np.testing.assert_allclose(p, wanted, rtol=1e-4)


def test_save_and_load(classifier, splits, tmp_path):
    classifier.save(tmp_path / "best.safetensors")
    for path in (tmp_path, tmp_path / "best.safetensors"):
        again = minialex.load(path, classifier.devices.backends[0])
        assert again.recipe_line == classifier.recipe_line
        assert again.class_names == classifier.class_names
        square = splits.val.image(0, 72)
        np.testing.assert_array_equal(again.probabilities(square), classifier.probabilities(square))
    assert again.evaluate().images == 12  # the images that training held out
    assert minialex.evaluate(tmp_path, "shapes:48").images == 12
    assert len(minialex.predict(tmp_path, square)[0]) == 5


def test_a_file_of_another_network_is_refused(classifier, tmp_path):
    path = tmp_path / "w.safetensors"
    classifier.save(path)
    tensors, described = checkpoint.load(path)
    tensors["conv2.weight"] = tensors["conv2.weight"][:, :, :, :64]
    checkpoint.save(path, tensors, described)
    with pytest.raises(InputError, match=r"conv2\.weight is .* the file holds another network"):
        load(path)
    tensors["conv2.weight"] = classifier.params["conv2"]["weight"]
    checkpoint.save(path, tensors, {**described, "class_names": ["cat"]})
    with pytest.raises(InputError, match="names 1 classes"):
        load(path)
    for key in ("recipe", "class_names", "class_ids", "model"):
        for value in (None, 5, [], {"crop": "x"}):
            checkpoint.save(path, tensors, {**described, key: value})
            with pytest.raises(InputError):
                load(path).predict(np.zeros((9, 9, 3), np.uint8))
    whole = dict(described)
    del described["recipe"]
    checkpoint.save(path, tensors, described)
    with pytest.raises(
        InputError, match=r"has no recipe: it is damaged, or from before .* 0\.1\.0"
    ):
        load(path)
    older = {**whole, "model": {k: v for k, v in whole["model"].items() if k != "dropout"}}
    checkpoint.save(path, tensors, older)
    with pytest.raises(InputError, match=r"it has no 'dropout'\): it is damaged, or from before"):
        load(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="give a run folder"):
        load(tmp_path / "none.safetensors")
    with pytest.raises(InputError, match="not a run folder"):
        load(tmp_path)


@pytest.mark.parametrize("path", [None, 3, "", b"run", "a\0b"])
def test_an_invalid_path_is_refused(classifier, path):
    for use in (load, classifier.save):
        with pytest.raises(InputError, match="it must be a path"):
            use(path)


def test_classes_it_was_not_trained_on_are_refused(classifier, tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (80, 80)).save(tmp_path / name / "a.png")
    with pytest.raises(InputError, match="not trained on"):
        classifier.evaluate(tmp_path)


def test_without_recorded_data_none_is_guessed(classifier, splits):
    unknown = replace(classifier, data={})
    with pytest.raises(InputError, match="give data"):
        unknown.evaluate()
    assert unknown.evaluate(splits).images == 12


def test_labels_of_a_subset_of_classes_are_mapped(classifier, splits, tmp_path):
    label = 7
    for k in (2, label):
        folder = tmp_path / classifier.class_ids[k]
        folder.mkdir()
        index = int(np.flatnonzero(splits.val.labels == k)[0])
        Image.fromarray(splits.val.image(index, 72)).save(folder / "a.png")
    evaluation = classifier.evaluate(tmp_path)
    p = classifier.probabilities([tmp_path / classifier.class_ids[k] / "a.png" for k in (2, 7)])
    assert evaluation.loss == pytest.approx(-math.log(p[0, 2] * p[1, 7]) / 2, rel=1e-4)


def test_classes_are_matched_by_position_only_for_weights_without_a_record(classifier, tmp_path):
    numbered = replace(classifier, class_ids=("0", "1"), class_names=("0", "1"))
    imported = replace(numbered, data={})
    photos = photographs(tmp_path / "photos", each=1)
    for network in (imported, Ensemble((imported, imported))):
        assert "the weights have no class names" in network.evaluate(photos).note
    with pytest.raises(InputError, match=r"classes this network was not trained on \(cat, dog\)"):
        numbered.evaluate(photos)
    by_number = photographs(tmp_path / "numbers", each=1, classes=("0", "1"))
    for network in (imported, numbered):
        assert network.evaluate(by_number).note == ""
    (by_number / "0").rename(by_number / "2")
    with pytest.raises(InputError, match=r"classes this network was not trained on \(2\)"):
        imported.evaluate(by_number)


def test_packed_images_cannot_be_resized_in_another_way(classifier, tmp_path):
    photos = photographs(tmp_path / "photos", each=2)
    packed = minialex.prepare(photos, tmp_path / "packed", size=80, progress=False).folder
    two = replace(classifier, class_ids=("cat", "dog"), class_names=("cat", "dog"), data={})
    said = "the images were cropped to squares when they were packed"
    for field in ("squash", "bilinear"):
        recipe = replace(two.preprocessing.recipe, **{field: True})
        other = replace(two, preprocessing=replace(two.preprocessing, recipe=recipe))
        for network in (other, Ensemble((two, other))):
            assert said in network.evaluate(packed).note
            assert said not in network.evaluate(photos).note
    assert two.evaluate(packed).note == ""
    with pytest.raises(InputError, match=r"cropped to squares.*: choose `resize='crop'`, or"):
        minialex.train(packed, resize="squash", progress=False, out=tmp_path / "run")


def test_images_that_are_read_once_are_not_kept(classifier, splits, monkeypatch):
    def kept():
        raise AssertionError("nobody reads it")

    monkeypatch.setattr("minialex.data.loading.loader.default_cache_bytes", kept)
    assert classifier.evaluate(splits).images == 12
    assert Ensemble((classifier,)).evaluate(splits).images == 12
    assert evaluate_model(classifier.trained, splits.val).images == 12


def test_the_loss_of_an_impossible_label_stays_finite(classifier, splits):
    params = {k: dict(v) for k, v in classifier.params.items()}
    params["fc8"]["bias"] = params["fc8"]["bias"] + np.linspace(0, 1e4, 12, dtype=np.float32)
    evaluation = evaluate_model(replace(classifier.trained, params=params), splits.val)
    assert math.isfinite(evaluation.loss)


def test_a_home_folder_is_the_same_data_with_and_without_tilde(tmp_path, monkeypatch):
    (tmp_path / "pets").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert data_key("~/pets") == data_key(tmp_path / "pets")


@pytest.mark.parametrize(("right", "images"), [(0, 10), (10, 10), (39, 50), (700, 1000)])
def test_the_interval_of_an_accuracy_is_wilsons_score_interval(right, images):
    from scipy.stats import binomtest

    wanted = binomtest(right, images).proportion_ci(0.95, method="wilson")
    assert accuracy_interval(right, images) == pytest.approx((wanted.low, wanted.high), abs=1e-6)


def test_top_5_is_left_out_with_few_classes():
    few = evaluate_probabilities(np.eye(4), np.arange(4), 1, "", {})
    many = evaluate_probabilities(np.eye(10), np.arange(10), 1, "", {})
    assert "top-5" not in str(few)
    assert "top-5" in str(many)
    assert "accuracy 100.00% (95% interval 51.0% to 100.0%)" in str(few)
