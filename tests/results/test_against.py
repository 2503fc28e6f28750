"""Published curves in the formats that they come in, and where a run leaves one."""

import json

import pytest
from helpers.tiny import register_tiny

import minialex
from minialex.errors import InputError
from minialex.parallel import DeviceConfig
from minialex.results import page, published_curve
from minialex.results.against import compare
from minialex.results.published_curve import Curve
from minialex.training.report import report


def curve(tmp_path, *texts, batch=256, epoch=1000):
    paths = []
    for i, text in enumerate(texts):
        paths.append(tmp_path / f"{i}.csv")
        paths[-1].write_text(text)
    return published_curve.read(paths, batch_size=batch, epoch_images=epoch).points


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        # of Caffe's log of the training batches, and of its tests
        ("iteration,train_loss\n20,4.5\n40,4\n", {"train_loss": [(5120, 4.5), (10240, 4)]}),
        ("iteration,loss\n0,7\n", {"train_loss": [(0, 7)]}),
        (
            "iteration,accuracy,loss,top5\n10,0.125,4.5,0.25\n",
            {
                "val_loss": [(2560, 4.5)],
                "val_top1_error": [(2560, 0.875)],
                "val_top5_error": [(2560, 0.75)],
            },
        ),
        ("NumIters,Seconds,top1\n10,3.5,57.5\n", {"val_top1_error": [(2560, 0.425)]}),
        # a row an epoch, with a column that is no number
        (
            "time,epoch,training_loss,training_accuracy,validation_loss,validation_accuracy\n"
            "20240912_1755,1,5.5,0.1,4.25,0.25\n",
            {
                "train_loss": [(1000, 5.5)],
                "val_loss": [(1000, 4.25)],
                "val_top1_error": [(1000, 0.75)],
            },
        ),
        # of Keras, which counts from 0, and where the plain names are of training
        (
            "epoch,accuracy,loss,val_accuracy,val_loss\n0,0.1,2.5,0.25,2\n1,0.2,2,nan,\n",
            {
                "train_loss": [(1000, 2.5), (2000, 2)],
                "val_loss": [(1000, 2)],
                "val_top1_error": [(1000, 0.75)],
            },
        ),
        # of our own, and with images and percentages
        ("epoch,step,val_top1_error\n1,8,0.5\n", {"val_top1_error": [(1000, 0.5)]}),
        ("images,epoch,top5_error\n50,9,18.2\n", {"val_top5_error": [(50, 0.182)]}),
    ],
)
def test_formats(tmp_path, text, wanted):
    found = curve(tmp_path, text)
    assert {name: [pytest.approx(p) for p in points] for name, points in found.items()} == wanted


def test_two_files_of_one_run_are_one_curve(tmp_path):
    found = curve(tmp_path, "iteration,loss\n2,1\n1,2\n", "iteration,loss,top1\n2,3,0.5\n")
    assert found == {
        "train_loss": [(256, 2), (512, 1)],
        "val_loss": [(512, 3)],
        "val_top1_error": [(512, 0.5)],
    }


@pytest.mark.parametrize(
    ("text", "batch", "words"),
    [
        ("", 1, "has the columns none: a learning curve needs one of images"),
        ("when,loss\n1,2\n", 1, "needs one of images, epoch"),
        ("epoch,speed\n1,2\n", 1, "and a loss, an error or an accuracy"),
        ("epoch,loss\n", 1, "has no rows"),
        ("x" * 200_000, 1, "is not a table"),  # without a comma, as in a file of Base64
        ("epoch,loss\n1,2\n2,low\n", 1, "line 3 of .* has 'low' as loss: expected a number"),
        ("iteration,loss\n1,2\n", None, "counts iterations: give .* with `against_batch`"),
    ],
)
def test_files_that_are_no_curve(tmp_path, text, batch, words):
    with pytest.raises(InputError, match=words):
        curve(tmp_path, text, batch=batch)


ON_IT = "stays within 2 points of the curve (41.0% against 40.0% at epoch 3)."


@pytest.mark.parametrize(
    ("errors", "words"),
    [
        ((0.81, 0.61, 0.41), ON_IT),
        ((0.81, 0.61, 0.5), "leaves the curve after epoch 2 and ends above it"),
        ((0.9, 0.7, 0.41), "is within 2 points of the curve since epoch 3, and not before"),
        ((0.7, 0.5, 0.3), "is below the curve throughout"),
        ((0.9, 0.5, 0.3), "is never on the curve"),
        ((0.81, 0.61, 0.41, 0.1), f"{ON_IT} The curve ends before epoch 4."),
    ],
)
def test_where_a_run_leaves_a_curve(errors, words):
    points = [(100, 0.8), (300, 0.4)]
    history = [{"epoch": i, "val_top1_error": e, "val_loss": ""} for i, e in enumerate(errors, 1)]
    [found] = compare(history, Curve("a", {"val_top1_error": points, "val_loss": points}), 100)
    assert f"the run {words}" in found.sentence
    assert found.run[0] == (100, errors[0])


def test_a_training_loss_is_an_epochs_mean():
    points = [(x, float(x)) for x in range(1, 1001)]
    rows = [{"epoch": 1, "train_loss": 100.0}, {"epoch": 2, "train_loss": 300.5}]
    [found] = compare(rows, Curve("a", {"train_loss": points, "val_loss": []}), 200)
    assert "stays within 5% of the curve (300 against 300 at epoch 2)" in found.sentence
    assert len(found.curve) <= 200
    [early] = compare(rows, Curve("a", {"train_loss": [(9000, 1.0)]}), 200)
    assert "has no point among the images that this run has seen" in early.sentence


@pytest.mark.usefixtures("reports")
def test_the_page_lays_the_run_on_the_curve(tmp_path, monkeypatch, capsys):
    register_tiny(monkeypatch)
    path = tmp_path / "published.csv"
    path.write_text("epoch,val_loss,top1\n1,0.1,0.99\n2,0.1,0.99\n")
    settings = {"model": "tiny", "backend": "numpy", "batch_size": 16}
    given = {**settings, "against": path, "against_batch": 16}
    run = minialex.train("shapes:48", **given, epochs=2, out=tmp_path / "run")
    sentence = "Validation loss: the run is above the curve throughout"
    assert sentence in capsys.readouterr().out
    text = (run.run_dir / "results.html").read_text(encoding="utf-8")
    assert sentence in text
    assert "Published: published.csv." in text
    assert text.count("by images seen") == 2
    path.unlink()
    report(run.run_dir, devices=DeviceConfig("numpy"))
    text = (run.run_dir / "results.html").read_text(encoding="utf-8")
    assert "published.csv is no longer there" in text
    path.write_text("epoch,speed\n1,1\n")
    with pytest.raises(InputError, match="a learning curve needs"):
        minialex.train("shapes:48", **settings, epochs=2, against=[path], out=tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_published_files(shared_data):
    """Three published runs: Caffe's logs, and a table by epoch."""
    validation = {"val_loss", "val_top1_error", "val_top5_error"}
    for name, columns in (
        ("caffenet256_lrn.train.csv", {"train_loss"}),
        ("caffenet256_lrn.test.csv", validation),
        ("bvlc_alexnet_fp32.test.csv", validation),
        ("alexnet_towers_2010.csv", {"train_loss", "val_loss", "val_top1_error"}),
    ):
        path = shared_data / "curves" / name
        found = published_curve.read([path], batch_size=256, epoch_images=1_281_167)
        assert found.points.keys() == columns


@pytest.mark.parametrize(("epochs", "last"), [(2, 6.0), (30, 100.0)])
def test_a_curve_that_is_much_longer_is_cut(epochs, last):
    """A run of a fiftieth of the curve would be a spot at its start."""
    points = {"val_loss": [(x * 1e6, 5 / x) for x in range(1, 101)]}
    history = [{"epoch": n, "val_loss": 4.0} for n in range(1, epochs + 1)]
    [one] = compare(history, Curve("theirs", points), 1_000_000)
    assert page._beside(one)[-1][0] == pytest.approx(last * 1e6, rel=0.02)
    [spot] = compare(history, Curve("theirs", points), 1_000)
    assert page._beside(spot) == spot.curve  # nothing of it is near


def test_another_runs_curve_counts_its_own_images(tmp_path):
    file = tmp_path / "history.csv"
    file.write_text("epoch,val_loss\n1,0.5\n")
    assert published_curve.read([file], batch_size=None, epoch_images=60).points == {
        "val_loss": [(60, 0.5)]
    }
    (tmp_path / "config.json").write_text(json.dumps({"data": {"train_images": 7}}))
    assert published_curve.read([file], batch_size=None, epoch_images=60).points == {
        "val_loss": [(7, 0.5)]
    }
    file.write_text(f"epoch,val_loss\n1,{'0' * 200_000}\n")
    with pytest.raises(InputError, match="is not a table"):
        published_curve.read([file], batch_size=None, epoch_images=60)
