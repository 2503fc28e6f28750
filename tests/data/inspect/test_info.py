import shutil

import numpy as np
import pytest
from helpers import ilsvrc
from PIL import Image

from minialex.data.inspect import report_lines
from minialex.data.inspect.check import check_data
from minialex.data.inspect.info import inspect
from minialex.data.packed.prepare import prepare


def test_a_folder(photos, photo):
    photo(photos / "train" / "cat" / "wide.jpg", size=(90, 20))
    cut = photos / "train" / "dog" / "3.JPEG"
    cut.write_bytes(cut.read_bytes()[:-300])
    found = inspect(photos)
    assert found.counts == {"train": [6, 5], "val": [2, 2]}
    assert found.shorter_sides == (20, 30, 30)
    assert list(found.unreadable) == [str(cut)]
    text = str(found)
    assert "train: 11 images in 2 classes, 5 to 6 per class (median 6)" in text
    assert "shorter sides: 20 to 30 pixels (median 30), of 11 training images" in text
    assert "unreadable of 11 training images and 4 validation images: 1" in text
    assert f"  {cut} cannot be read as an image" in text
    assert "  cat          6        2" in text
    assert found.as_dict()["classes"][1] == {"id": "dog", "name": "dog", "train": 5, "val": 2}


def test_colour_is_measured(tmp_path):
    for name, colour in (("a", (10, 100, 200)), ("b", (30, 120, 220))):
        for i in range(3):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.new("RGB", (20, 20), colour).save(tmp_path / name / f"{i}.png")
    found = inspect(tmp_path)
    assert found.mean_colour == (20, 110, 210)
    assert found.colour_std == 10
    assert "mean colour: red 20.0, green 110.0, blue 210.0 of 255" in str(found)


def test_a_packed_set_reports_its_source(photos, tmp_path):
    prepare(photos, tmp_path / "packed", size=64, progress=False)
    before, after = inspect(photos), inspect(tmp_path / "packed")
    np.testing.assert_allclose(before.mean_colour, after.mean_colour, atol=0.01)
    np.testing.assert_allclose(before.colour_std, after.colour_std, atol=0.01)
    assert after.measured == 10
    assert after.shorter_sides == (64, 64, 64)
    assert "packed pixels, 64 x 64, from class folders" in str(after)


def test_archives(tmp_path):
    found = inspect(ilsvrc.write_archives(tmp_path / "imagenet"))
    assert found.counts == {"train": [3, 3, 3, 3], "val": [2, 2, 1, 1]}
    assert "  n02012849        3        2  crane (n02012849)" in str(found)
    assert found.shorter_sides == (30, 30, 30)


def test_many_classes_are_shortened(monkeypatch):
    monkeypatch.setattr(report_lines, "_TABLE_ROWS", 8)
    text = str(inspect("shapes:60"))
    assert "the 2 smallest and 2 largest classes:" in text
    assert sum(line.startswith("  ") for line in text.splitlines()) == 5


def test_all_unreadable(photos):
    for path in photos.glob("train/*/[1-4].JPEG"):
        path.write_bytes(b"no photograph")
    found = inspect(photos)
    assert found.mean_colour is None
    assert "unreadable" in str(found)


@pytest.mark.parametrize("part", ["train", "val"])
def test_unreadable_images_of_both_parts_are_named(photos, part):
    broken = photos / part / "cat" / "1.JPEG"
    broken.write_bytes(b"no photograph")
    found = inspect(photos)
    assert list(found.unreadable) == [str(broken)]
    assert found.as_dict()["tried"] == {"train": 10, "val": 4}


@pytest.mark.parametrize("layout", ["train and val", "classes", "names", "val lacks a class"])
def test_check_prints_the_same_counts(photos, layout):
    root = photos
    if layout == "classes":
        root = photos / "train"
    if layout == "names":
        (photos / "synset_words.txt").write_text("cat domestic cat, Felis\ndog hound\n")
    if layout == "val lacks a class":
        shutil.rmtree(photos / "val" / "cat")

    def counts(text):
        found = text.splitlines()[1:]
        return [line for line in found if line.startswith(("train: ", "val: ", "  "))]

    told = counts(str(inspect(root)))
    assert told == counts(check_data(root).partition("problems:")[0])
    assert len(told) == 5
