"""results.html and predictions.csv: their contents, and that they never fail a run."""

import csv
import errno
import json
import re
import signal
from dataclasses import replace

import numpy as np
import pytest
from helpers.html import Balanced
from helpers.tiny import photographs, register_tiny

import minialex
from minialex.data.sources.open import open_data
from minialex.errors import InputError
from minialex.inference.by_class import by_class, confusion, most_confused
from minialex.parallel import DeviceConfig
from minialex.plots.kernel_sheet import sheet
from minialex.results import outcomes, page
from minialex.results.chart import chart
from minialex.results.outcomes import Outcomes, chosen
from minialex.training import report as reporting
from minialex.training.report import report

ARGUMENTS = {"model": "tiny", "backend": "numpy", "epochs": 2, "progress": False}
pytestmark = pytest.mark.usefixtures("reports")
NUMPY = DeviceConfig("numpy")


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A run of two epochs on photographs of two classes, one with a name to escape."""
    register_tiny(monkeypatch)
    data = photographs(tmp_path / "data", each=12, classes=("cat", "dog & <hound>"))
    return minialex.train(data, out=tmp_path / "run", val_fraction=0.5, **ARGUMENTS)


def rows_of(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_writes_both_files(trained):
    text = (trained.run_dir / "results.html").read_text(encoding="utf-8")
    checker = Balanced()
    checker.feed(text)
    assert not checker.open
    assert "http" not in text.replace('xmlns="http', "")  # self-contained
    assert "dog &amp; &lt;hound&gt;" in text
    assert "<hound>" not in text
    for title in (
        "Curves",
        "By class",
        "Confusion",
        "Most confident mistakes",
        "training batch",
        "kernels",
    ):
        assert title in text
    rows = rows_of(trained.run_dir / "predictions.csv")
    assert list(rows[0]) == ["file", "label", "predicted", "probability", "right"]
    best = minialex.load(trained.run_dir, "numpy")
    accuracy = best.evaluate().accuracy
    assert np.mean([row["right"] == "1" for row in rows]) == accuracy
    assert f'<p class="score">{accuracy:.1%}</p>' in text
    for row in rows:
        [first, *_] = best.predict(row["file"])[0]
        assert row["predicted"] == first.name
        assert float(row["probability"]) == pytest.approx(first.probability, abs=1e-6)
        assert f"/{row['label']}/" in row["file"]
        assert (row["label"] == first.name) == (row["right"] == "1")


def test_rewriting_it_gives_the_same_file(trained, tmp_path):
    path, table = trained.run_dir / "results.html", trained.run_dir / "predictions.csv"
    before = path.read_text(), table.read_text()
    path.unlink()
    assert report(trained.run_dir, devices=NUMPY) == path
    assert (path.read_text(), table.read_text()) == before
    (tmp_path / "data").rename(tmp_path / "moved")
    report(trained.run_dir, tmp_path / "moved", images=5, devices=NUMPY)
    assert "5 of 12 validation images" in path.read_text()
    assert len(rows_of(table)) == 5


def test_a_runs_folder_may_begin_with_the_home_folder(trained, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert report("~/run", devices=NUMPY) == trained.run_dir / "results.html"
    with pytest.raises(FileNotFoundError, match=f"^no run folder {tmp_path}/rum: did you mean"):
        report("~/rum", devices=NUMPY)


def test_a_run_without_its_last_state_is_reported_too(trained):
    before = rows_of(trained.run_dir / "predictions.csv")
    (trained.run_dir / "last.safetensors").unlink()
    report(trained.run_dir, devices=NUMPY)
    assert rows_of(trained.run_dir / "predictions.csv") == before


def test_a_run_with_frozen_layers_shows_its_images(trained, tmp_path):
    given = {**ARGUMENTS, "initial": trained.run_dir, "freeze": "conv2", "epochs": 1}
    minialex.train(tmp_path / "data", out=tmp_path / "tuned", val_fraction=0.5, **given)
    assert len(rows_of(tmp_path / "tuned" / "predictions.csv")) == 12
    assert "Most confident mistakes" in (tmp_path / "tuned" / "results.html").read_text()


def test_a_run_on_data_from_python_needs_the_data_again(tmp_path, monkeypatch):
    register_tiny(monkeypatch)
    splits = open_data(photographs(tmp_path / "data", each=6))
    minialex.train(splits, out=tmp_path / "run", report=False, **ARGUMENTS)
    assert not (tmp_path / "run" / "results.html").exists()
    with pytest.raises(InputError, match="images is 0"):
        report(tmp_path / "run", splits, images=0, devices=NUMPY)
    with pytest.raises(InputError, match="passed from Python"):
        report(tmp_path / "run", devices=NUMPY)
    assert report(tmp_path / "run", splits, devices=NUMPY).exists()
    others = open_data(photographs(tmp_path / "others", each=6, classes=("a", "b")))
    with pytest.raises(InputError, match="others has other classes than the run in"):
        report(tmp_path / "run", others, devices=NUMPY)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyError("bug")])
def test_a_failing_report_does_not_fail_training(tmp_path, monkeypatch, capsys, error):
    register_tiny(monkeypatch)

    def failing(*arguments):
        raise error

    monkeypatch.setattr(reporting, "write", failing)
    data = photographs(tmp_path / "data", each=6)
    arguments = {**ARGUMENTS, "progress": True}
    result = minialex.train(data, out=tmp_path / "a run", **arguments)
    assert len(result.history) == 2
    said = capsys.readouterr().out
    assert "results.html was not written" in said
    assert f"; minialex report '{tmp_path / 'a run'}' tries again" in said


@pytest.mark.usefixtures("plain_signals")
def test_a_signal_is_obeyed_at_once(tmp_path, monkeypatch, capsys):
    register_tiny(monkeypatch)
    judge = outcomes.judge

    def stopped(*arguments, **options):
        signal.raise_signal(signal.SIGTERM)
        return judge(*arguments, **options)

    monkeypatch.setattr(outcomes, "judge", stopped)
    data = photographs(tmp_path / "data", each=6)
    arguments = {**ARGUMENTS, "progress": True}
    result = minialex.train(data, out=tmp_path / "run", **arguments)
    assert result.interrupted == "SIGTERM"
    assert not (tmp_path / "run" / "results.html").exists()
    assert "minialex report" in capsys.readouterr().out


def test_classes_and_confusion_by_hand():
    labels, said = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 1, 1, 1, 0, 2])
    first, second, third = by_class(("a", "b", "c", "none"), labels, labels == said)
    assert [(c.name, c.images, c.right) for c in (first, second, third)] == [
        ("a", 3, 1),
        ("b", 2, 1),
        ("c", 1, 1),
    ]
    assert first.interval == pytest.approx((0.0615, 0.7923), abs=1e-4)
    assert json.dumps(first.as_dict())
    assert confusion(labels, said, 3).tolist() == [[1, 2, 0], [1, 1, 0], [0, 0, 1]]
    assert most_confused(labels, said, 1) == [(0, 1, 2)]
    few = np.array([13], np.uint8)
    assert confusion(few, np.array([0]), 20)[13, 0] == 1


def made(count, classes, channels=3):
    rng = np.random.default_rng(0)
    labels, said = rng.integers(0, classes, (2, count))
    p = rng.random(count)

    class Images:
        class_names = tuple(f"class {k}" for k in range(classes))

        def __len__(self):
            return count

        def image(self, index, size):
            return np.zeros((size, size, channels), np.uint8)

    images = Images()
    images.channels = channels
    return Outcomes(images, np.arange(count), labels, said, p, 0 * p, labels == said)


def test_the_most_confident_mistakes_come_first():
    found = made(50, 4)
    places = found.surest_mistakes(10)
    assert not found.right[places].any()
    wrong = found.probability[~found.right]
    np.testing.assert_array_equal(found.probability[places], np.sort(wrong)[::-1][:10])


def test_mistakes_whose_images_are_gone_are_still_mistakes():
    found = made(50, 4)
    right = replace(found, predicted=found.labels, right=found.labels == found.labels)

    def gone(index, size):
        raise OSError(errno.EIO, "Input/output error")

    found.dataset.image = gone
    text = [page.page(page.Run("gone", {}, [], None, one)) for one in (found, right)]
    assert ["made no mistakes" in one for one in text] == [False, True]
    assert "images of the mistakes can no longer be read" in text[0]


def test_only_some_of_many_classes_are_shown(trained):
    run = page.Run("many", {}, [], trained.classifier, made(3000, 100))
    text = page.page(run)
    assert "Most confused" in text
    assert text.count("</tr>") == 1 + page.CLASSES + 1 + page.PAIRS
    assert "of 100" in text
    stacks = page.page(replace(run, outcomes=made(30, 3, channels=20)))
    assert "Most confident mistakes" not in stacks
    alone = page.page(replace(run, outcomes=None))
    assert "No images were held out" in alone


def test_images_are_chosen_evenly():
    assert chosen(5, 5000).tolist() == [0, 1, 2, 3, 4]
    assert chosen(1000, None).size == 1000
    some = chosen(1000, 10)
    assert (some[0], some[-1], len(set(some))) == (0, 999, 10)


def test_a_chart_leaves_out_non_finite_values():
    drawn = chart({"a": [(1, 2.0), (2, float("nan")), (3, 4.0)], "b": []}, "x").text
    [points] = re.findall('polyline class="line1" points="([^"]*)"', drawn)
    (x1, y1), (x2, y2) = (map(float, p.split(",")) for p in points.split())
    assert x1 < x2
    assert y1 > y2  # up is less in SVG
    assert chart({"a": [(1, float("inf"))]}, "x") == ""
    assert "<circle" in chart({"a": [(1, 0.0)]}, "x").text


@pytest.mark.parametrize("losses", [(-1.0, -3.0), (0.5, -3.2), (0.7, 0.2)])
def test_a_chart_holds_negative_losses_and_zero(losses):
    drawn = chart({"own": list(enumerate(losses, 1))}, "x").text
    [points] = re.findall('polyline class="line1" points="([^"]*)"', drawn)
    ticks = re.findall(r'<text x="40" y="([\d.]+)" text-anchor="end">([-\d.]+)<', drawn)
    (low, smallest), *_, (high, largest) = ((float(y) - 4, float(said)) for y, said in ticks)
    assert smallest <= min(0, *losses) <= max(0, *losses) <= largest
    for point, loss in zip(points.split(), losses, strict=True):
        y = low + (loss - smallest) / (largest - smallest) * (high - low)
        assert float(point.split(",")[1]) == pytest.approx(y, abs=0.1)


def test_each_kernel_is_scaled_separately():
    kernels = np.zeros((3, 3, 3, 2), np.float32)
    kernels[0, 0, 0, 0], kernels[1, 1, 2, 1] = 1e-3, -5
    found = sheet(kernels)
    assert tuple(found[0, 0]) == (255, 255, 255)
    assert tuple(found[2, 2]) == (255, 128, 128)
    middle = 49 + 2 + 15 + 7  # the second kernel's centre: 15 pixels per weight
    assert tuple(found[2 + 15 + 7, middle]) == (128, 128, 0)
