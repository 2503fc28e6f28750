"""Cross-validation: each image is evaluated once, by a network not trained on it."""

import csv
import signal
from pathlib import Path

import numpy as np
import pytest
from helpers.html import Balanced
from helpers.tiny import photographs, register_tiny

import minialex
from minialex.cli import main
from minialex.data.image_record import stored_record
from minialex.data.sources.open import open_data
from minialex.data.split import fold_of
from minialex.training import cross_validation, fitted_recipe, report
from minialex.training.state import State
from minialex.utils import checkpoint

TINY = {"model": "tiny", "batch_size": 16, "backend": "numpy", "epochs": 1}


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    register_tiny(monkeypatch)


@pytest.fixture
def folder(tmp_path):
    return photographs(tmp_path / "photographs")


def test_each_image_is_held_out_once_and_classes_evenly(folder):
    whole = open_data(folder).whole
    parts = [fold_of(whole, number, 3, seed=0).val for number in (1, 2, 3)]
    names = [part.describe(i) for part in parts for i in range(len(part))]
    assert sorted(names) == sorted(whole.describe(i) for i in range(len(whole)))
    counts = np.array([np.bincount(p.labels, minlength=len(whole.class_ids)) for p in parts])
    assert np.ptp(counts, axis=0).max() <= 1


def test_out_of_fold_predictions_of_every_image(folder, tmp_path):
    found = minialex.cross_validate(folder, folds=3, out=tmp_path / "cv", progress=False, **TINY)
    whole = open_data(folder).whole
    with (tmp_path / "cv" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["file"] for row in rows) == sorted(map(whole.describe, range(len(whole))))
    right = sum(row["label"] == row["predicted"] for row in rows)
    assert right == sum(row["right"] == "1" for row in rows)
    assert found.evaluation.images == len(whole) == len(rows)
    assert found.evaluation.accuracy == pytest.approx(right / len(rows))
    for number in (1, 2, 3):  # the evaluated images are those that its network holds out
        about = checkpoint.load_metadata(tmp_path / "cv" / f"fold-{number}" / "last.safetensors")
        held = stored_record(about["data"]).held_out_by_name(whole)
        mine = [row["file"] for row in rows if row["fold"] == str(number)]
        assert sorted(mine) == sorted(whole.describe(int(i)) for i in np.flatnonzero(held))


def test_the_page_has_all_folds_and_classes(folder, tmp_path):
    found = minialex.cross_validate(folder, folds=2, out=tmp_path / "cv", progress=False, **TINY)
    page = (tmp_path / "cv" / "results.html").read_text()
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert f">{found.evaluation.accuracy:.1%}<" in page
    for fold in found.folds:
        assert f"<td>{fold.images}</td><td>{fold.accuracy:.1%}</td>" in page
    for title in ("2-fold cross-validation", "By fold", "By class", "Confusion", "mistakes"):
        assert title in page
    wrong = sum(fold.images for fold in found.folds) * (1 - found.evaluation.accuracy)
    shown = page.split("Most confident mistakes")[1].count("<img")
    assert shown == min(round(wrong), 24)


def test_a_page_that_cannot_be_written_costs_nothing_else(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(report, "write", lambda folder, page: 1 / 0)
    assert minialex.cross_validate(folder, folds=2, out=tmp_path / "cv", **TINY).evaluation
    assert "results.html was not written (division by zero)" in capsys.readouterr().out
    given = {**TINY, "report": False, "progress": False}
    minialex.cross_validate(folder, folds=2, out=tmp_path / "no", **given)
    assert not (tmp_path / "no" / "results.html").exists()


def test_finished_folds_are_not_trained_again(folder, tmp_path, monkeypatch):
    given = {**TINY, "folds": 2, "out": tmp_path / "cv", "progress": False}
    first = minialex.cross_validate(folder, **given)
    trained = []
    train = cross_validation.train_shown

    def counted(*given, **more):
        trained.append(more["resume"])
        return train(*given, **more)

    monkeypatch.setattr(cross_validation, "train_shown", counted)
    again = minialex.cross_validate(folder, **given)
    assert trained == [True, True]
    assert again.evaluation == first.evaluation
    longer = minialex.cross_validate(folder, **{**given, "epochs": 2})
    assert longer.evaluation != first.evaluation  # they continue to what is requested now
    with pytest.raises(ValueError, match="batch_size=16, not 8"):
        minialex.cross_validate(folder, **{**given, "epochs": 2, "batch_size": 8})


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"folds": 1}, "at least 2"),
        ({"folds": 2, "fold": "1/2"}, "leave out `fold`"),
        ({"folds": 2, "val_fraction": 0.2}, "`val_fraction` has no effect in cross-validation"),
        ({"folds": 2, "stop_early": 1}, "'stop_early' would use the images that each fold"),
        ({"folds": 2, "schedule": "plateau"}, "'plateau' would use the images that each fold"),
    ],
)
def test_invalid_folds_are_refused(folder, given, sentence):
    with pytest.raises(ValueError, match=sentence):
        minialex.cross_validate(folder, **given, **TINY)


def test_weights_that_have_seen_the_images_are_refused(folder, tmp_path):
    """All folds would validate on what they have not seen, and be judged on what they have."""
    given = {**TINY, "progress": False}
    minialex.train(folder, out=tmp_path / "seen", **given)
    minialex.train("shapes:48", out=tmp_path / "other", **given)
    for kind in ("initial", "shallow"):
        start = {kind: tmp_path / "seen"}
        with pytest.raises(ValueError, match=r"trained on \d+ of these \d+ images, so their folds"):
            minialex.cross_validate(folder, folds=3, out=tmp_path / "cv", **start, **given)
        with pytest.raises(ValueError, match="so their folds could not be judged fairly"):
            minialex.train(folder, fold="2/3", out=tmp_path / "fold", **start, **given)
    start = {"initial": tmp_path / "other", "replace_classifier": True}
    assert minialex.cross_validate(folder, folds=2, out=tmp_path / "cv", **start, **given).folds


def test_a_fold_of_drawings_is_the_same_when_it_is_resumed(tmp_path, reports):
    """They have no names that a record could list."""
    given = {"fold": "1/3", "out": tmp_path / "run", "progress": False, **TINY}
    first = minialex.train("shapes:48", max_steps=1, **given)
    minialex.train(resume=True, **{**given, "backend": "numpy", "epochs": 2})
    minialex.report(tmp_path / "run")
    with (tmp_path / "run" / "predictions.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 16
    assert first.run_dir == tmp_path / "run"


def test_no_schedule_looks_at_the_fold_that_is_judged(folder, tmp_path):
    """The published recipe's own one would, which waits for the validation error."""
    given = {**TINY, "recipe": "published", "epochs": 1, "max_steps": 1, "fold": "1/2"}
    run = minialex.train(folder, **given, out=tmp_path / "run")
    assert run.classifier.model.recipe.schedule == "step"
    given.pop("fold")
    run = minialex.train(folder, **given, out=tmp_path / "other")
    assert run.classifier.model.recipe.schedule == "plateau"


@pytest.mark.parametrize("fold", ["0/3", "4/3", "1/1", "x", "1/2/3", "-1/3"])
def test_an_unknown_fold_is_refused(folder, fold):
    with pytest.raises(ValueError, match="give K/N with K from 1 to N"):
        minialex.train(folder, fold=fold, **TINY)


@pytest.mark.parametrize("fold", ["1/9999", "9000/9999"])
def test_more_folds_than_images_gives_a_clear_error(folder, fold):
    with pytest.raises(ValueError, match="too few images for 9999 folds"):
        minialex.train(folder, fold=fold, **TINY)


def test_a_folder_of_folds_is_not_taken_for_a_run(folder, tmp_path, capsys):
    (tmp_path / "cv" / "fold-1").mkdir(parents=True)
    for command in ("train --resume", "report"):
        assert main.main([*command.split(), str(tmp_path / "cv")]) == 2
        assert "cv holds a cross-validation: repeat the command" in capsys.readouterr().err


def test_later_folds_train_the_network_of_the_first(folder, tmp_path, monkeypatch):
    """Its default may have been that of another version."""
    defaults = iter(["tiny"])
    default = lambda train, **_: next(defaults, "tiny-bn")  # noqa: E731
    monkeypatch.setattr(fitted_recipe, "default_network", default)
    out = tmp_path / "cv"
    given = {**TINY, "model": None}
    minialex.cross_validate(folder, folds=3, out=out, progress=False, **given)
    found = [minialex.load(out / f"fold-{number}").model.name for number in (1, 2, 3)]
    assert found == ["tiny"] * 3


def test_the_command(folder, tmp_path, capsys):
    words = ["--model", "tiny", "--backend", "numpy", "--epochs", "1", "--quiet"]
    line = ["train", "--data", str(folder), "--folds", "2", "--out", str(tmp_path / "cv"), *words]
    assert main.main(line) == 0
    output = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in output[:2]] == ["fold 1", "fold 2"]
    assert "95% interval" in output[2]


def test_common_messages_are_printed_once(folder, tmp_path, capsys):
    (folder / "cat" / "raw.heic").write_bytes(b"x")
    minialex.cross_validate(folder, folds=2, out=tmp_path / "cv", **TINY)
    assert capsys.readouterr().out.count("raw.heic") == 1


def test_a_stopped_run_names_one_way_to_continue(folder, tmp_path, capsys, monkeypatch):
    """The command for all folds: resuming only the fold would leave out the others."""
    words = [
        "--model",
        "tiny",
        "--backend",
        "numpy",
        "--epochs",
        "1",
        "--out",
        str(tmp_path / "cv"),
    ]
    line = ["train", "--data", str(folder), "--folds", "2", *words]
    saved, save = [], State.save

    def signalled(*given):
        save(*given)
        saved.append(given)
        if len(saved) == 2:  # the first is before training
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(State, "save", signalled)
        assert main.main(line) == 130
    [said] = [one for one in capsys.readouterr().out.splitlines() if "continue with" in one]
    assert said.endswith(f"--out {tmp_path / 'cv'}")
    assert main.main(line) == 0
    assert "continue with" not in capsys.readouterr().out


def test_a_stopped_run_names_its_folder_quoted_also_with_json(monkeypatch, capsys):
    stopped = cross_validation.CrossValidation(Path("my folds"), (), None, "SIGINT")
    monkeypatch.setattr(minialex, "cross_validate", lambda *given, **more: stopped)
    assert main.main(["train", "--folds", "2", "--json"]) == 130
    assert capsys.readouterr().err == "SIGINT: continue with --out 'my folds'\n"
