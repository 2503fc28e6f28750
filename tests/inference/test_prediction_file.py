"""Prediction files: one row per image, and the evaluation written with them."""

import csv
import json

import numpy as np
import pytest
from helpers.untrained import untrained

from minialex.data.sources.open import open_data
from minialex.errors import InputError
from minialex.inference.ensemble import Ensemble
from minialex.inference.prediction_file import judged_rows, prediction_file

FILES = ('a "cat", really.jpg', "b\udce9.jpg")
FOUND = (np.array([0, 1]), np.array([1, 1]), np.array([0.25, 1]), np.array([False, True]))
ROWS = list(judged_rows(FILES, ("cat", "dog"), *FOUND))


def test_csv_has_a_header_and_a_row_per_image(tmp_path):
    with prediction_file(tmp_path / "p.csv") as file:
        for row in ROWS:
            file.add(row)
    assert file.rows == 2
    with open(tmp_path / "p.csv", encoding="utf-8", newline="") as text:
        head, *rows = csv.reader(text)
    assert head == ["file", "label", "predicted", "probability", "right"]
    assert rows[0] == ['a "cat", really.jpg', "cat", "dog", "0.25", "0"]
    assert rows[1] == ["b\\udce9.jpg", "dog", "dog", "1.0", "1"]  # a name that is not UTF-8


def test_json_lines_have_one_object_each(tmp_path):
    with prediction_file(tmp_path / "p.JSONL") as file:
        for row in ROWS:
            file.add(row)
    lines = (tmp_path / "p.JSONL").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == ROWS


def test_a_file_is_written_atomically(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("before")
    with pytest.raises(AttributeError), prediction_file(path) as file:
        file.add(None)
    assert path.read_text() == "before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["p.csv"]
    with (
        pytest.raises(InputError, match=r"unknown file type '.txt'"),
        prediction_file(tmp_path / "p.txt"),
    ):
        pass
    with (
        pytest.raises(OSError, match=r"cannot write .*choose a folder"),
        prediction_file(tmp_path / "none" / "p.csv"),
    ):
        pass


@pytest.mark.parametrize("members", [1, 2])
def test_evaluation_reports_each_image_once(members):
    networks = tuple(untrained(seed, "cifar10") for seed in range(members))
    network = networks[0] if members == 1 else Ensemble(networks)
    seen = []
    found = network.evaluate("shapes:48", batch_size=5, on_images=lambda *x: seen.append(x))
    names = [name for part, _, _ in seen for name in part]
    val = open_data("shapes:48").val
    assert names == [val.describe(i) for i in range(len(val))]
    labels, p = (np.concatenate([part[k] for part in seen]) for k in (1, 2))
    np.testing.assert_array_equal(labels, val.labels)
    assert np.mean(p.argmax(axis=1) == labels) == pytest.approx(found.accuracy)
