"""The repr of a classifier, network, result and data set in terminals and notebooks."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.untrained import untrained

from minialex import models
from minialex.data.sources.open import open_data
from minialex.training.result import Result


@pytest.fixture(scope="module")
def classifier():
    return untrained(name="cifar10")


def short(thing, lines: int) -> str:
    said = repr(thing)
    assert len(said.splitlines()) <= lines
    assert max(map(len, said.splitlines())) <= 140
    return said


def test_a_classifiers_repr_has_three_lines(classifier):
    said = short(classifier, 3)
    assert said.startswith("<Classifier cifar10, 91,628 parameters")
    assert "12 classes: blue dotted cross, blue dotted disc, blue dotted triangle, ..." in said
    assert "minus mean image" in said
    assert "trained on shapes:48" in said
    many = tuple("x" * 400 + str(k) for k in range(12))
    short(replace(classifier, class_names=many, data={}), 3)


def test_a_notebook_shows_tables_in_which_names_are_text(classifier):
    odd = replace(classifier, class_names=("<script>", *classifier.class_names[1:]))
    assert "<td>trained on</td><td>shapes:48</td>" in classifier._repr_html_()
    assert "&lt;script&gt;" in odd._repr_html_()
    assert "<script>" not in odd._repr_html_()
    assert "<td>conv1</td><td>Conv2D</td>" in classifier.model.network._repr_html_()


def test_predictions_are_bars_in_a_notebook(classifier):
    images = [np.full((40, 40, 3), 90, np.uint8)] * 2
    found = classifier.predict(images)
    assert found == [list(row) for row in found]
    shown = found._repr_html_()
    assert shown.count("<tr>") == 10
    first = found[0][0]
    assert f"<td>{first.name}</td><td>{first.probability:.1%}</td>" in shown
    odd = type(found)([[replace(first, name="<b>", probability=0.5)], []])._repr_html_()
    assert "&lt;b&gt;" in odd
    assert "width:80px" in odd
    assert "not readable" in odd


def test_predictions_show_their_images(classifier):
    images = [np.full((30, 50, 3), k, np.uint8) for k in range(20)]
    found = classifier.predict(images)
    assert list(found.pictures) == list(range(1, 17))
    for number, picture in found.pictures.items():
        assert picture.base is None  # not a whole batch is kept
        assert np.unique(picture).tolist() == [number - 1]
    shown = found._repr_html_()
    assert shown.count("<img ") == 16
    assert "image 20" in shown
    [one] = [classifier.predict(images[7])]
    assert "image 1" not in one._repr_html_()
    assert one._repr_html_().count("<img ") == 1


def test_an_unreadable_image_has_no_picture(classifier, tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.warns(UserWarning, match="a.png"):
        found = classifier.predict([tmp_path / "a.png", np.full((40, 40, 3), 90, np.uint8)])
    assert list(found.pictures) == [2]


def test_a_networks_repr_has_one_line():
    said = short(models.get("alexnet").network, 2)
    assert "227x227x3 to 1,000 outputs" in said
    assert "60,965,224 parameters" in said


def test_a_result_shows_its_last_epochs(classifier):
    rows = [
        {"epoch": n, "train_loss": 2.5 - n / 10, "val_loss": 2.0, "val_top1_error": 0.25}
        for n in range(1, 31)
    ]
    result = Result(rows, classifier, Path("runs/a"), interrupted="SIGINT")
    said = short(result, 4)
    assert "epoch 30, val loss 2.000, accuracy 75.0%, stopped by SIGINT" in said
    shown = result._repr_html_()
    assert shown.count("<tr>") == 11
    assert shown.count("<polyline") == 2
    assert "cifar10, 91,628 parameters, 30 epochs" in shown
    assert "<td>30</td><td>-0.500</td><td>2.000</td><td>75.0%</td>" in shown
    blind = [{"epoch": 1, "train_loss": 2.0, "val_loss": None, "val_top1_error": None}]
    assert "epoch 1>" not in short(replace(result, history=blind, interrupted=None), 4)
    short(replace(result, history=[]), 4)


def test_a_data_set_does_not_list_its_files(tmp_path):
    from PIL import Image

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for k in range(30):
            Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / name / f"{k}.png")
    said = short(open_data(tmp_path).train, 1)
    assert said.startswith(("<ImageFolder ", "<Subset "))
    assert "54 images of 2 classes, class folders" in said
