"""The interface of a data set, and data sets that users make without its base class."""

import numpy as np
import pytest
from PIL import Image

import minialex
from minialex.data.dataset import Dataset, Splits, complete, subset
from minialex.data.sources.open import open_data
from minialex.errors import InputError


class Plain:
    """A data set with only the required members and no base class."""

    name, layout, native_size = "plain", "made in Python", None
    class_ids = class_names = ("dark", "light")
    labels = np.arange(24) % 2

    def __len__(self):
        return len(self.labels)

    def image(self, index, size):
        shade = 200 * self.labels[index] + 20
        return np.full((size, size, 3), shade, np.uint8) + np.uint8(index % 7)

    def describe(self, index):
        return f"image {index}"


class WithMore(Plain):
    channels = 20


def test_a_data_set_without_the_base_class_gets_its_defaults():
    found = complete(Plain())
    assert isinstance(found, Dataset)
    assert (found.channels, found.statistics, found.mapped_size, found.path(0)) == (3, *[None] * 3)
    assert found.describe(3) == "image 3"
    assert found.name == "plain"
    assert len(found) == 24
    assert complete(found) is found


def test_own_attributes_are_kept():
    assert complete(WithMore()).channels == 20


@pytest.mark.parametrize("kind", [list, np.int8, np.uint16])
def test_labels_may_be_any_integers(kind):
    own = Plain()
    own.labels = list(Plain.labels) if kind is list else Plain.labels.astype(kind)
    found = complete(own).labels
    assert found.dtype == np.int64
    assert np.array_equal(found, Plain.labels)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.arange(24) % 2 + 0.0, r"\(24,\) of float64: they must be integers, one for each of"),
        (np.arange(23) % 2, r"\(23,\) of int64: .* its 24 images"),
        (np.zeros((24, 1), int), r"\(24, 1\) of int64"),
        (np.arange(24) % 2 + 1, "go from 1 to 2, but it has 2 classes: they must be from 0 to 1"),
        (np.arange(24) % 2 - 1, "go from -1 to 0"),
        (["dark", "light"] * 12, "they must be integers"),
    ],
)
@pytest.mark.parametrize("base", [object, Dataset])
def test_labels_that_are_no_classes_are_refused(labels, said, base):
    class Own(Plain, base):
        def __len__(self):
            return 24

    own = Own()
    own.labels = labels
    with pytest.raises(InputError, match=said):
        Splits(own, Plain())


def test_what_is_no_data_set_is_refused_with_what_it_lacks():
    with pytest.raises(InputError, match=r"ndarray has no name, layout, .*, image, describe$"):
        Splits(Plain(), np.zeros((4, 8, 8, 3)))
    with pytest.raises(InputError, match=r"a data set is None; .* subset\(train, \[\]\)"):
        Splits(Plain(), None)


def test_training_without_validation_images(tmp_path):
    splits = Splits(Plain(), subset(Plain(), []))
    settings = {"model": "cifar10", "epochs": 1, "batch_size": 8, "backend": "numpy"}
    settings |= {"val_fraction": 0, "out": tmp_path / "run", "progress": False}
    result = minialex.train(splits, **settings)
    assert result.history[0]["val_loss"] is None


def test_training_on_a_data_set_of_another_class(tmp_path):
    splits = Splits(Plain(), Plain())
    settings = {"model": "cifar10", "epochs": 1, "batch_size": 8, "backend": "numpy"}
    result = minialex.train(splits, **settings, out=tmp_path / "run", progress=False)
    assert result.classifier.evaluate(Plain()).images == 24


def test_parts_with_other_classes_are_refused(tmp_path):
    for folder, names in (("a", ("cat", "dog")), ("b", ("dog", "fox"))):
        for name in names:
            (tmp_path / folder / name).mkdir(parents=True)
            for number in range(3):
                Image.new("RGB", (8, 8)).save(tmp_path / folder / name / f"{number}.png")
    a, b = (open_data(tmp_path / folder, val_fraction=0).train for folder in "ab")
    with pytest.raises(InputError, match=r"validate on .dog, fox. are not those to train"):
        Splits(a, b)
