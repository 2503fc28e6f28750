"""Data sets with mistakes: tables, names, parts, images made in Python."""

import sys

import numpy as np
import pytest
from PIL import Image

from minialex.data.dataset import Dataset, Splits
from minialex.data.decode.images import to_rgb
from minialex.data.image_record import record
from minialex.data.loading.loader import Loader
from minialex.data.sources.open import open_data, open_for_evaluation
from minialex.errors import InputError


def test_parts_with_other_classes_are_refused(tmp_path):
    for folder, names in (("a", ("cat", "dog")), ("b", ("dog", "fox"))):
        for name in names:
            (tmp_path / folder / name).mkdir(parents=True)
            for number in range(3):
                Image.new("RGB", (8, 8)).save(tmp_path / folder / name / f"{number}.png")
    a, b = (open_data(tmp_path / folder, val_fraction=0).train for folder in "ab")
    with pytest.raises(InputError, match=r"validate on .dog, fox. are not those to train"):
        Splits(a, b)


class Own(Dataset):
    """A data set made in Python, which returns `found` for every image."""

    name, layout, native_size = "own", "made", None
    class_ids = class_names = ("a", "b")
    labels = np.array([0, 1] * 8)

    def __init__(self, found):
        self.found = found

    def __len__(self):
        return len(self.labels)

    def image(self, index, size):
        return self.found

    def describe(self, index):
        return str(index)


@pytest.mark.parametrize(
    ("found", "what"),
    [
        (np.zeros((8, 8, 3)), r"an array \(8, 8, 3\) of float64"),
        (np.zeros((8, 8, 1), np.uint8), r"an array \(8, 8, 1\) of uint8"),
        (np.zeros((4, 8, 3), np.uint8), r"an array \(4, 8, 3\) of uint8"),
        ([[0]], "list"),
    ],
)
def test_images_of_ones_own_data_set_are_checked(found, what):
    with pytest.raises(InputError, match=f"image.0, 8. of the data set 'own' returns {what}: it"):
        next(Loader(Own(found), 8).batches(np.arange(4), 2))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('file,label\n0.png,a\n1.png,"a\n2.png,b\n3.png,b"\n', "over several lines, up to line 5"),
        ("file,label\n0.png,a\n1.png,b, black\n", "line 3 of .* has 3 cells, the first line 2"),
    ],
)
def test_a_stray_quote_or_comma_in_a_table(tmp_path, text, sentence):
    for number in range(4):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{number}.png")
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(InputError, match=sentence):
        open_data(tmp_path / "labels.csv")
    (tmp_path / "labels.csv").write_text("file,label\n0.png,a,\n1.png,a,\n2.png,b\n3.png,b\n")
    assert len(open_data(tmp_path / "labels.csv", val_fraction=0).train) == 4


@pytest.mark.parametrize("part", ["test", "val"])
def test_a_table_of_one_part_is_enough_to_evaluate_on(tmp_path, part):
    rows = ["file,label,split\n"]
    for number in range(4):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{number % 2},{part}\n")
    (tmp_path / "labels.csv").write_text("".join(rows))
    assert len(open_for_evaluation(tmp_path / "labels.csv")) == 4
    with pytest.raises(InputError, match="has no image for training"):
        open_data(tmp_path / "labels.csv")


def test_names_in_two_forms_are_two_images(tmp_path):
    """As é and as e with an accent, of which one is held out."""
    if sys.platform == "darwin":
        pytest.skip("its file systems take the two forms for one name")
    for label in "ab":
        (tmp_path / label).mkdir()
        for number, name in enumerate(("caf\u00e9", "cafe\u0301", "c", "d")):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / label / f"{name}.png")
    for seed in range(6):
        splits = open_data(tmp_path, seed=seed, val_fraction=0.25)
        found = record(splits)
        whole = splits.whole
        held = [whole.image_name(i) for i in np.flatnonzero(found.held_out_by_name(whole))]
        assert sorted(held) == sorted(splits.val.image_name(i) for i in range(len(splits.val)))


def test_pillow_images_without_pixels_and_of_rare_modes():
    with pytest.raises(InputError, match="0 x 5 pixels"):
        to_rgb(Image.new("RGB", (0, 5)))
    assert to_rgb(Image.new("La", (4, 4))).mode == "RGB"
