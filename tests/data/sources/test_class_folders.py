import shutil
from unicodedata import normalize

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minialex.data.dataset import Splits, subset
from minialex.data.image_record import fingerprint
from minialex.data.sources.class_folder_layouts import class_folders
from minialex.data.sources.class_folders import of_part
from minialex.data.sources.drawings import Drawings
from minialex.data.sources.open import open_data
from minialex.data.split import hold_out, split
from minialex.errors import InputError


def described(data) -> list[str]:
    return [data.describe(i) for i in range(len(data))]


def test_train_and_val(photos):
    splits = open_data(str(photos))
    assert (len(splits.train), len(splits.val)) == (10, 4)
    assert splits.train.class_ids == splits.val.class_names == ("cat", "dog")
    assert splits.train.labels.tolist() == [0] * 5 + [1] * 5
    assert splits.train.labels.dtype == np.int64
    assert splits.train.name == splits.val.name == "photos"
    assert splits.train.layout == "class folders in train/ and val/"
    assert splits.train.native_size == 30
    assert splits.train.describe(9) == str(photos / "train" / "dog" / "4.JPEG")
    assert splits.train.image(9, 16).shape == (16, 16, 3)


def test_folders_may_be_called_training_and_validation(photos):
    (photos / "train").rename(photos / "Training")
    (photos / "val").rename(photos / "validation")
    splits = open_data(photos)
    assert (len(splits.train), len(splits.val)) == (10, 4)


def test_class_folders_alone_are_split_by_seed(photos):
    first = open_data(photos / "train", seed=1, val_fraction=0.4)
    assert isinstance(first, Splits)
    assert set(first.train.labels) == set(first.val.labels) == {0, 1}
    assert sorted(described(first.train) + described(first.val)) == sorted(
        str(path) for path in (photos / "train").glob("*/*")
    )
    assert described(open_data(photos / "train", seed=1, val_fraction=0.4).val) == described(
        first.val
    )
    others = [open_data(photos / "train", seed=s, val_fraction=0.4).val for s in range(2, 9)]
    assert any(described(other) != described(first.val) for other in others)
    assert "about 40% of each class held out by seed 1" in first.train.layout


def test_train_without_val_is_split(photos):
    shutil.rmtree(photos / "val")
    splits = open_data(photos)
    assert len(splits.train) + len(splits.val) == 10
    assert set(splits.val.labels) == {0, 1}
    assert splits.train.name == "photos"


@given(st.lists(st.integers(1, 40), min_size=2, max_size=5), st.floats(0.01, 0.99), st.data())
def test_a_split_keeps_every_image_and_every_class(numbered, counts, fraction, data):
    whole = numbered(sum(counts))
    whole.labels = np.repeat(np.arange(len(counts)), counts)
    whole.class_ids = tuple("abcde"[: len(counts)])
    parts = split(whole, fraction, seed=data.draw(st.integers(0, 2**64 - 1)))
    together = np.concatenate((parts.train.indices, parts.val.indices))
    np.testing.assert_array_equal(np.sort(together), np.arange(len(whole)))
    in_val = np.bincount(parts.val.labels, minlength=len(counts))
    for count, held_out in zip(counts, in_val, strict=True):
        assert min(1, count - 1) <= held_out <= max(0, count - 1)


class Named(Drawings):
    """Drawings of two classes that have names."""

    def __init__(self, names):
        super().__init__(len(names))
        object.__setattr__(self, "names", names)
        self.__dict__["labels"] = np.arange(len(names)) % 2

    def image_name(self, index):
        return self.names[index]


def held_out(names, fraction=0.1, seed=0):
    val = split(Named(names), fraction, seed).val
    return {val.image_name(index) for index in range(len(val))}


@pytest.mark.parametrize("count", [3, 14, 15, 96, 500])  # of 15, a tenth is rounded up
def test_adding_or_removing_an_image_moves_at_most_one_other(count):
    names = [f"{i:04}.jpg" for i in range(count)]

    def drawn(names, seed=0):
        held = hold_out(names, np.zeros(len(names), np.int64), 0.1, seed)
        return {name for name, is_held in zip(names, held, strict=True) if is_held}

    before = drawn(names)
    assert len(before) == max(1, round(0.1 * count))
    assert before == drawn(names[::-1])
    if count > 50:
        assert before != drawn(names, seed=1)
    for gone in (names[0], min(before)):
        after = drawn([name for name in names if name != gone])
        assert len((before ^ after) - {gone}) <= 1
    for k in range(20):
        after = drawn([f"({k}).jpg", *names])
        assert len((before ^ after) - {f"({k}).jpg"}) <= 1


def test_a_class_does_not_change_the_split_of_another():
    labels = np.array([1, 0, 2, 1, 0, 2, 1, 1, 0, 1] * 9)
    names = [f"{i}.jpg" for i in range(90)]
    together = hold_out(names, labels, 0.2, 5)
    for label in range(3):
        own = labels == label
        alone = hold_out([n for n, k in zip(names, own, strict=True) if k], labels[own], 0.2, 5)
        np.testing.assert_array_equal(together[own], alone)
        assert alone.sum() == round(0.2 * own.sum())


def test_a_zero_fraction_holds_out_nothing():
    assert held_out(["a", "b", "c"], fraction=0) == set()


@pytest.mark.parametrize("fraction", [1, -0.5])
def test_an_invalid_fraction_is_refused(photos, fraction):
    with pytest.raises(InputError, match="val_fraction"):
        open_data(photos / "train", val_fraction=fraction)


def test_a_subset_keeps_order_and_classes(photos):
    train = open_data(photos).train
    some = subset(train, [7, 2])
    assert len(some) == 2
    assert some.labels.tolist() == [1, 0]
    assert some.describe(0) == train.describe(7)
    np.testing.assert_array_equal(some.image(1, 8), train.image(2, 8))
    assert some.class_ids == train.class_ids


def test_hidden_and_other_files_are_ignored(photos, photo):
    photo(photos / "train" / ".ipynb_checkpoints" / "0.jpg")
    photo(photos / "train" / "cat" / ".hidden.jpg")
    photo(photos / "train" / "cat" / "upper.JpG")
    (photos / "train" / "cat" / "notes.txt").write_text("mine")
    (photos / "README").write_text("mine")
    assert len(open_data(photos).train) == 11


def test_class_names_are_readable(photos):
    for part in ("train", "val"):
        (photos / part / "cat").rename(photos / part / "n02012849")
        (photos / part / "dog").rename(photos / part / "n03126707")
        shutil.copytree(photos / part / "n03126707", photos / part / "n02102040")
    (photos / "synset_words.txt").write_text(
        "n01440764 tench, Tinca tinca\nn02012849 crane\nn03126707 crane, lifting device\n"
        "n02102040 English springer, English springer spaniel\n"
    )
    train = open_data(photos).train
    assert train.class_ids == ("n02012849", "n02102040", "n03126707")
    assert train.class_names == ("crane", "English springer", "crane, lifting device")


def test_evaluation_data_uses_the_given_classes(photos):
    train = open_data(photos).train
    shutil.rmtree(photos / "val" / "cat")
    val = of_part(class_folders(photos / "val"), like=train)
    assert val.labels.tolist() == [1, 1]
    assert val.class_ids == ("cat", "dog")


def test_unusable_folders_give_a_one_sentence_error(photos, photo, tmp_path):
    def refused(path, sentence):
        with pytest.raises(InputError, match=sentence):
            open_data(path)

    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "empty' holds nothing at all: expected train/<class>/")
    refused(photos / "train" / "cat", "cat' holds no class folders")
    photo(photos / "val" / "bird" / "0.jpg")
    refused(photos, "bird' is a class that the training images lack")
    shutil.rmtree(photos / "val" / "bird")

    (photos / "train" / "ant").mkdir()
    refused(photos, "ant' has no image: add images")
    (photos / "train" / "ant" / "0.jpg").write_text("no picture")
    refused(photos, "ant' holds no readable image: none of its 1 files opens")
    shutil.rmtree(photos / "train" / "ant")

    shutil.rmtree(photos / "train" / "cat")
    refused(photos, "only the class 'dog'")
    shutil.rmtree(photos / "train" / "dog")
    refused(photos, "train' holds no class folders: put the images of each class")
    (photos / "train").rmdir()
    refused(photos, "has a folder val/ but no train/")


def test_real_photographs_are_read(shared_data):
    splits = open_data(shared_data / "imagenette")
    assert (len(splits.train), len(splits.val)) == (9469, 3925)
    assert splits.train.class_ids[0] == "n01440764"
    splits = open_data(shared_data / "clothing")
    assert (len(splits.train), len(splits.val)) == (341, 372)
    for data in (splits.train, splits.val):
        for index in range(0, len(data), 50):
            assert data.image(index, 64).std() > 5


class Counted(np.ndarray):
    """Labels that count the operations on the whole array."""

    passes = 0

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        Counted.passes += 1
        plain = [np.asarray(i) if isinstance(i, Counted) else i for i in inputs]
        return getattr(ufunc, method)(*plain, **options)


def test_splitting_many_classes_takes_few_passes():
    names, labels = [f"{i}.jpg" for i in range(600)], np.repeat(np.arange(200), 3).view(Counted)
    assert hold_out(names, labels, 0.1, 0).sum() == 200
    assert Counted.passes < 20


COMPOSED = "\u00e9t\u00e9"
DECOMPOSED = normalize("NFD", COMPOSED)  # as macOS writes it, and sorts it before "f"


def test_macos_names_are_equal_to_composed_ones(tmp_path, photos):
    """In train/, in val/, and in a copy of the whole: same classes, images, order and split."""
    for part, name in (("train", DECOMPOSED), ("val", COMPOSED)):
        (photos / part / "cat").rename(photos / part / name)
        first = min((photos / part / name).iterdir())
        first.rename(first.with_name(f"{name}.JPEG"))
    splits = open_data(photos)
    assert splits.train.class_ids == splits.val.class_ids == ("dog", COMPOSED)
    assert np.bincount(splits.val.labels).tolist() == [2, 2]
    assert splits.train.image_name(9) == f"{COMPOSED}/{COMPOSED}.JPEG"
    assert splits.train.image(9, 8).shape == (8, 8, 3)
    one, other = tmp_path / "one", tmp_path / "other"
    shutil.copytree(photos / "train", one)
    shutil.copytree(photos / "train", other)
    (other / DECOMPOSED).rename(other / COMPOSED)
    (other / COMPOSED / f"{DECOMPOSED}.JPEG").rename(other / COMPOSED / f"{COMPOSED}.JPEG")
    assert fingerprint(open_data(one, val_fraction=0.4)) == fingerprint(
        open_data(other, val_fraction=0.4)
    )


def test_a_class_in_both_unicode_forms_and_an_empty_class_are_refused(photos):
    (photos / "train" / "cat").rename(photos / "train" / DECOMPOSED)
    (photos / "train" / COMPOSED).mkdir()
    with pytest.raises(InputError, match=r"two folders called .* move the images of one"):
        open_data(photos / "train")
    shutil.rmtree(photos / "train" / DECOMPOSED)
    (photos / "train" / COMPOSED).rename(photos / "train" / DECOMPOSED)
    with pytest.raises(InputError, match=f"{DECOMPOSED}' has no image: add .* or remove"):
        open_data(photos / "train")


def test_files_in_both_unicode_forms_stay_separate(photos):
    folder = photos / "train" / "cat"
    for name in (COMPOSED, DECOMPOSED):
        shutil.copy(folder / "0.JPEG", folder / f"{name}.JPEG")
    train = open_data(photos).train
    assert len({train.image_name(i) for i in range(len(train))}) == len(train) == 12
