"""Weights kept by name: stored at the end of a run, found by their name, listed."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.tiny import photographs, register_tiny
from safetensors.numpy import load_file

import minialex
from minialex.cli import main
from minialex.errors import InputError
from minialex.training.kept import keep, kept
from minialex.utils import weight_names

TINY = {"model": "tiny", "batch_size": 16, "backend": "numpy", "progress": False, "epochs": 2}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An empty data folder, and an empty current one."""
    register_tiny(monkeypatch)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("MINIALEX_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def own(home):
    """Weights "own" of photographs in ../photographs, and their run."""
    folder = photographs(home.parent / "photographs")
    return minialex.train(folder, keep="own", out=home.parent / "run", **TINY)


def test_a_kept_name_works_as_a_weight_file(own, home, capsys):
    [one] = kept()
    best = min(own.history, key=lambda row: row["val_loss"])
    assert (one.name, one.network, one.classes) == ("own", "tiny", 2)
    assert one.accuracy == pytest.approx(1 - best["val_top1_error"])
    assert one.data == str(home.parent / "photographs")
    assert one.path == home / "weights" / "own.safetensors"
    weights, stored = load_file(own.run_dir / "best.safetensors"), load_file(one.path)
    assert stored["conv1.weight"].dtype == np.float16
    assert np.array_equal(stored["fc8.weight"], weights["fc8.weight"].astype(np.float16))
    loaded, classifier = minialex.load("own", "numpy"), minialex.load(own.run_dir, "numpy")
    assert loaded.class_names == ("cat", "dog")
    assert loaded.data == classifier.data
    image = np.zeros((1, 20, 20, 3), np.uint8)
    found, wanted = (one.probabilities(image) for one in (loaded, classifier))
    np.testing.assert_allclose(found, wanted, atol=1e-3)
    assert main.main(["evaluate", "--model-file", "own", "--backend", "numpy", "--json"]) == 0
    [judged] = json.loads(capsys.readouterr().out)
    assert judged["images"] == own.classifier.evaluate().images


def test_a_run_starts_from_a_name_and_never_validates_on_its_images(own, home, capsys):
    given = {**TINY, "epochs": 1, "progress": True, "seed": 5}
    minialex.train(home.parent / "photographs", initial="own", out="tuned", **given)
    said = capsys.readouterr().out
    assert "starting from" in said
    assert "not trained on; --seed" in said
    config = json.loads(Path("tuned/config.json").read_text())["settings"]
    assert config["initial"] == str(home / "weights" / "own.safetensors")
    held = [Path(folder, "held_out.txt").read_text() for folder in ("tuned", own.run_dir)]
    assert set(held[0].split()) <= set(held[1].split())


def test_a_stopped_run_continues_with_the_name_it_started_from(own, home):
    data = home.parent / "photographs"
    minialex.train(data, initial="own", out="tuned", max_steps=1, keep="tuned", **TINY)
    assert [one.name for one in kept()] == ["own"]
    done = minialex.train(out="tuned", resume=True, initial="own", progress=False, max_steps=99)
    assert len(done.history) == 2
    assert [one.name for one in kept()] == ["own", "tuned"]  # kept at its end


def test_an_existing_path_takes_precedence(own):
    minialex.train("shapes:48", out="own", **{**TINY, "epochs": 1})
    assert len(minialex.load("own", "numpy").class_names) == 12


def test_keeping_again_replaces(own, capsys):
    before = weight_names.file_of("own").read_bytes()
    minialex.train("shapes:48", out="other", **{**TINY, "epochs": 1})
    assert main.main(["weights", "--keep", "other", "own"]) == 0
    assert "in place of those before" in capsys.readouterr().out
    assert weight_names.file_of("own").read_bytes() != before
    assert [path.name for path in weight_names.folder().iterdir()] == ["own.safetensors"]
    assert main.main(["weights", "--keep", "own", "copy"]) == 0  # of kept weights, with accuracy
    copy, first = kept()
    assert (copy.name, copy.accuracy) == ("copy", first.accuracy)


def test_the_run_may_be_in_the_home_folder(own, monkeypatch):
    monkeypatch.setenv("HOME", str(own.run_dir.parent))
    keep("~/run", "again")
    again, first = kept()
    assert (again.name, again.accuracy) == ("again", first.accuracy)


@pytest.mark.parametrize("name", ["a/b", "a b", "", ".", "a.safetensors", "ä", "x" * 101])
def test_invalid_names_are_refused(name):
    with pytest.raises(InputError, match=r"keep is|of kept weights"):
        minialex.train("shapes:48", keep=name, **TINY)
    assert not Path("runs").exists()
    with pytest.raises(InputError, match="cannot be the name of kept weights"):
        keep("runs", name)


@pytest.mark.parametrize("missing", ["imagenete", "runs/none", "none.pth"])
def test_unknown_names_are_reported(own, missing):
    with pytest.raises(FileNotFoundError) as raised:
        minialex.load(missing)
    with pytest.raises(FileNotFoundError) as again:
        minialex.train("shapes:48", initial=missing, **{**TINY, "model": None})
    assert str(raised.value) == str(again.value)
    by_name = "(kept: own): give a run folder or a weight file, or keep some with `minialex train"
    assert (by_name in str(raised.value)) is (missing == "imagenete")
    assert ("--data DATA --keep imagenete`" in str(raised.value)) is (missing == "imagenete")


def test_the_list(own, home, capsys):
    weight_names.file_of("broken").write_bytes(b"nothing")
    assert main.main(["weights"]) == 1
    header, row, broken = capsys.readouterr().out.splitlines()
    assert header.split() == ["name", "network", "classes", "size", "accuracy", "trained", "on"]
    assert row.split()[:3] == ["own", "tiny", "2"]
    assert "%" in row
    assert "photographs" in row
    assert broken.startswith("broken: ")
    assert "damaged" in broken
    assert main.main(["weights", "--json"]) == 1
    assert [one["name"] for one in json.loads(capsys.readouterr().out)] == ["broken", "own"]


def test_an_empty_list(capsys):
    assert main.main(["weights"]) == 0
    assert "no weights are kept in" in capsys.readouterr().out


def test_an_unwritable_folder_keeps_the_run(home, capsys):
    home.write_text("a file")
    with pytest.raises(InputError, match="then `minialex weights --keep r own`"):
        minialex.train("shapes:48", keep="own", out="r", **{**TINY, "epochs": 1})
    assert len(minialex.train(out="r", resume=True, keep=None, progress=False).history) == 1


def test_folds_keep_nothing():
    with pytest.raises(InputError, match="`keep` saves the weights of one run"):
        minialex.cross_validate("shapes:48", folds=2, keep="own", **TINY)


@pytest.mark.parametrize(
    ("platform", "environment", "folder"),
    [
        ("linux", {"XDG_DATA_HOME": "/data"}, "/data/minialex/weights"),
        ("linux", {"XDG_DATA_HOME": "data"}, "/home/me/.local/share/minialex/weights"),
        ("linux", {}, "/home/me/.local/share/minialex/weights"),
        ("darwin", {}, "/home/me/Library/Application Support/minialex/weights"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/minialex/weights"),
        ("win32", {}, "/home/me/AppData/Local/minialex/weights"),
        ("win32", {"MINIALEX_HOME": "/mine"}, "/mine/weights"),
        ("linux", {"MINIALEX_HOME": "~/mine"}, "/home/me/mine/weights"),
    ],
)
def test_the_users_data_folder(monkeypatch, platform, environment, folder):
    for name in ("MINIALEX_HOME", "XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert weight_names.folder() == Path(folder)


@pytest.mark.skipif(os.name == "nt", reason="Windows takes the home folder from elsewhere")
def test_without_a_home_folder(monkeypatch):
    def nowhere():
        raise RuntimeError("no home")

    monkeypatch.delenv("MINIALEX_HOME")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    with pytest.raises(InputError, match="set MINIALEX_HOME"):
        weight_names.folder()
