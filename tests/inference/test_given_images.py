"""Inputs of predict: a prediction or a one-sentence error, in batches of bounded size."""

import copy
import io
import pickle

import numpy as np
import pytest
from helpers.untrained import untrained
from PIL import Image

import minialex
from minialex.data.sources.open import open_data
from minialex.errors import InputError
from minialex.inference import given_images
from minialex.inference.ensemble import Ensemble
from minialex.inference.trained_model import TrainedModel

GREY = np.arange(2000, dtype=np.uint8).reshape(40, 50)
RGB = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=-1)


@pytest.fixture(scope="module")
def classifier():
    return untrained(name="cifar10")


@pytest.fixture
def path(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    return tmp_path / "a.png"


GIVEN = {
    "generator": lambda path: (one for one in [path, path]),
    "glob": lambda path: path.parent.glob("*.png"),
    "map": lambda path: map(str, [path, path]),
    "set": lambda path: {path},
    "dictionary's values": lambda path: {1: path}.values(),
    "array of text": lambda path: np.array([str(path), str(path)]),
    "text of NumPy": lambda path: np.str_(path),
    "file": lambda path: path.open("rb"),
    "BytesIO": lambda path: io.BytesIO(path.read_bytes()),
    "bytes": lambda path: path.read_bytes(),
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "memoryview": lambda path: memoryview(path.read_bytes()),
    "list of bytes": lambda path: [path.read_bytes()],
    "picture": lambda path: Image.open(path),
    "array": lambda path: RGB,
    "arrays": lambda path: np.stack([RGB, RGB]),
    "list of arrays of other sizes": lambda path: [RGB, RGB[:33]],
}


@pytest.mark.parametrize("make", GIVEN.values(), ids=GIVEN)
def test_all_kinds_of_image_argument_give_the_same_image(classifier, path, make):
    found = classifier.probabilities(make(path))
    np.testing.assert_allclose(found[0], classifier.probabilities(path)[0], rtol=1e-4)


def test_grey_arrays_are_images(classifier):
    wanted = classifier.probabilities(np.stack([GREY] * 3, axis=-1))
    np.testing.assert_array_equal(classifier.probabilities(GREY), wanted)
    np.testing.assert_array_equal(classifier.probabilities([GREY]), wanted)


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (None, "is not an image: give paths"),
        (3, "is not an image"),
        ([["a.png"]], "is not an image"),
        ({"a": 1}, "is not an image"),
        (RGB.tolist(), "is not an image"),
        ("", "is not an image"),
        ("a\0b.png", "is not an image"),
        ([], "no image was given"),
        (iter(()), "no image was given"),
        (np.zeros((0, 40, 50, 3), np.uint8), "no image was given"),
        (RGB.astype(float), "give uint8"),
        (RGB.transpose(2, 0, 1), "give uint8"),
        (io.StringIO("text"), 'mode "rb"'),
        (io.BufferedWriter(io.BytesIO()), "was opened for writing"),
    ],
)
def test_anything_else_gives_a_one_sentence_error(classifier, images, sentence):
    with pytest.raises(InputError, match=sentence) as refused:
        classifier.predict(images)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("devices", [0, [0, 1]])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_classifier_can_be_pickled_to_another_process(classifier, tmp_path, devices, copied):
    classifier.save(tmp_path / "weights.safetensors")
    original = minialex.load(tmp_path / "weights.safetensors", "numpy", devices)
    found = copied(original)
    assert type(found.devices) is type(original.devices)
    np.testing.assert_array_equal(found.probabilities(RGB), original.probabilities(RGB))
    ensemble = copied(Ensemble([original, classifier], np.array([3, 1])))
    assert ensemble.weights == (0.75, 0.25)
    ensemble.predict(RGB)


def test_an_empty_folder_and_a_closed_image_give_clear_errors(classifier, path):
    (path.parent / "empty").mkdir()
    with pytest.raises(InputError, match="no images in folder"):
        classifier.predict([path, path.parent / "empty"])
    with Image.open(path) as picture:
        pass
    with pytest.raises(InputError, match="cannot be loaded"):
        classifier.predict(picture)


@pytest.mark.parametrize("top", [0, -1, 2.5, None, "5"])
def test_top_limits_the_classes(classifier, top):
    with pytest.raises(InputError, match="top is"):
        classifier.predict(RGB, top=top)
    assert len(classifier.predict(RGB, top=np.int64(2))[0]) == 2


@pytest.mark.parametrize("several", [False, True])
def test_few_images_are_in_memory_at_once(classifier, several, monkeypatch):
    """From an iterator, with one network and with several."""
    given, sizes, scores = [], [], TrainedModel.scores

    def counted(self, images, *arguments):
        assert len(given) - sum(sizes) // (1 + several) <= given_images.BATCH
        sizes.append(len(images))
        return scores(self, images, *arguments)

    def drawn(count):
        for number in range(count):
            given.append(number)
            yield RGB

    monkeypatch.setattr(TrainedModel, "scores", counted)
    monkeypatch.setattr(given_images, "BATCH", 8)
    network = Ensemble((classifier, classifier)) if several else classifier
    count = 2 * given_images.BATCH + 3
    assert len(network.probabilities(drawn(count))) == count
    assert max(sizes) == given_images.BATCH
    if not several:
        assert len(network.features([RGB] * count)) == count
        assert max(sizes) == given_images.BATCH


def test_a_folder_stands_for_its_files(classifier, path):
    """Including subfolders, sorted, as on the command line; left-out files give a warning."""
    folder = path.parent
    (folder / "below").mkdir()
    Image.fromarray(RGB[:20]).save(folder / "below" / "b.jpg")
    (folder / "c.heic").write_bytes(b"x")
    files = given_images.files_in(folder)
    assert [file.name for file in files] == ["a.png", "b.jpg"]
    with pytest.warns(UserWarning, match=r"c\.heic"):
        found = classifier.probabilities([str(folder), path])
    expected = classifier.probabilities([*files, path])
    np.testing.assert_array_equal(found, expected)
    assert np.abs(found[0] - found[1]).max() > 1e-6


def test_drawings_by_name(classifier):
    drawn = open_data("shapes:400").val
    expected = classifier.probabilities([drawn.image(0, 32), drawn.image(1, 32)])
    np.testing.assert_array_equal(classifier.probabilities("shapes:2"), expected)
    with pytest.raises(InputError, match="shapes:N"):
        classifier.predict("shapes:0")


def test_closed_files_pipes_and_empty_arrays(classifier, path):
    with path.open("rb") as file:
        pass
    for bad, sentence in ((file, "is closed"), (np.zeros(()), "is not an image")):
        with pytest.raises(InputError, match=sentence):
            classifier.predict(bad)

    class Pipe(io.BytesIO):
        def seek(self, *_):
            raise io.UnsupportedOperation("a pipe")

    [piped], [wanted] = classifier.predict(Pipe(path.read_bytes())), classifier.predict(path)
    assert piped == wanted


@pytest.mark.parametrize("several", [False, True])
def test_a_broken_image_keeps_its_row_and_is_named(classifier, path, several, monkeypatch):
    """In batches of two, the second without a readable image."""
    monkeypatch.setattr(given_images, "BATCH", 2)
    broken, gone = path.parent / "broken.jpg", path.parent / "gone.png"
    broken.write_bytes(path.read_bytes()[:100])
    given = [path, path, broken, b"no picture", str(gone), path]
    network = Ensemble((classifier, untrained())) if several else classifier
    whole = network.predict(path)[0]
    with pytest.warns(UserWarning, match="left out: ") as warned:
        found = network.predict(given)
    names = [one.name for one in whole]
    assert [[one.name for one in row] for row in found] == [names, names, [], [], [], names]
    said = [str(one.message) for one in warned]
    assert len(said) == 3
    for name, sentence in zip(("broken.jpg", "image 4", "gone.png"), said, strict=True):
        assert name in sentence
    with pytest.warns(UserWarning, match="left out"):
        rows = network.probabilities(given)
    np.testing.assert_array_equal(np.isnan(rows).all(axis=1), [not row for row in found])
    np.testing.assert_allclose(rows[5], rows[0], rtol=1e-4)
    if not several:
        with pytest.warns(UserWarning, match="left out"):
            features = network.features(given)
        np.testing.assert_array_equal(np.isnan(features).all(axis=1), [not row for row in found])
        np.testing.assert_allclose(features[5], network.features(path)[0], rtol=1e-4)
    with pytest.warns(UserWarning, match="left out"), pytest.raises(InputError) as refused:
        network.predict([broken, gone])
    assert "none of the 2 images is readable" in str(refused.value)
    for alone in (broken, gone, [broken]):
        with pytest.raises((InputError, OSError)):
            network.predict(alone)


def test_a_folder_with_a_broken_file_is_predicted_and_non_images_are_refused(classifier, path):
    (path.parent / "broken.png").write_bytes(b"x")
    with pytest.warns(UserWarning, match=r"broken\.png"):
        found = classifier.predict(path.parent)
    assert [len(row) for row in found] == [5, 0]
    for mistake in (3, RGB.astype(float), ""):
        with pytest.raises(InputError, match=r"not an image|give uint8"):
            classifier.predict([path, mistake])


def test_a_pipe_is_read_at_every_size(classifier, path):
    class Pipe(io.BytesIO):
        def seek(self, *_):
            raise io.UnsupportedOperation("a pipe")

    network = Ensemble((classifier, untrained()))
    wanted = network.probabilities(path)
    np.testing.assert_array_equal(network.probabilities(Pipe(path.read_bytes())), wanted)
