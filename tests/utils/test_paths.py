"""Paths as users may type them, and files that are in the way."""

import os
import sys
from pathlib import Path

import pytest
from helpers.tiny import photographs, register_tiny
from PIL import Image

import minialex
from minialex.cli import main
from minialex.data.sources.open import open_data
from minialex.errors import InputError, nearest
from minialex.training import run_folder
from minialex.utils import weight_names
from minialex.utils.paths import expanded

TINY = {"model": "tiny", "batch_size": 16, "backend": "numpy", "progress": False}


def said(capsys, *words, code=2):
    assert main.main([*map(str, words)]) == code
    return capsys.readouterr().err


def test_a_tilde_is_the_home_folder_or_a_part_of_a_name(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert expanded("~/a") == tmp_path / "a"
    assert expanded("~$no-user.png") == Path("~$no-user.png")
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (4, 4)).save("~tmp.png")
    photographs(Path("~set"), 4)
    assert main.main(["data", "~set"]) == 0
    assert len(open_data("~set").train)
    register_tiny(monkeypatch)
    run = minialex.train("shapes:48", **TINY, epochs=1, out="~/run")
    assert run.run_dir == tmp_path / "run"
    assert not (tmp_path / "~").exists()
    assert main.main(["predict", "~tmp.png", "--model-file", "~/run"]) == 0
    assert minialex.load("~/run").predict("~/~tmp.png")


@pytest.mark.skipif(sys.platform == "win32", reason="needs links and sockets")
def test_a_loop_of_links_is_an_error_of_one_sentence(tmp_path, monkeypatch, capsys):
    register_tiny(monkeypatch)
    run = minialex.train("shapes:48", **TINY, epochs=1, out=tmp_path / "run").run_dir
    loop = tmp_path / "loop.jpg"
    loop.symlink_to(loop)
    for words in (["predict", loop], ["explain", loop, "--out", tmp_path / "page.html"]):
        assert "loop.jpg" in said(capsys, *words, "--model-file", run)
    assert "did you mean" not in said(capsys, "data", loop)
    os.mkfifo(tmp_path / "a")
    assert nearest(tmp_path / "a") == ""  # that is the name itself


def test_the_folder_of_the_images_is_no_run_folder(tmp_path, monkeypatch, capsys):
    """A run's folders, such as checkpoints/, would be classes."""
    register_tiny(monkeypatch)
    photographs(tmp_path, 8)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match="would be written between the images"):
        minialex.train(tmp_path, **TINY, epochs=1, out=tmp_path)
    assert sorted(tmp_path.rglob("*")) == before
    minialex.train("shapes:48", **TINY, epochs=1, out=tmp_path)  # of other images
    with pytest.raises(FileNotFoundError, match="no data at"):
        minialex.train("typo", **TINY, epochs=1, out=tmp_path)


@pytest.mark.parametrize("name", run_folder.FILES)
def test_files_of_other_programs_are_not_replaced(tmp_path, monkeypatch, name):
    register_tiny(monkeypatch)
    (tmp_path / name).write_text('{"of": "another"}')
    with pytest.raises(InputError, match=f"has files that a run would replace .{name}"):
        minialex.train("shapes:48", **TINY, epochs=1, out=tmp_path)
    assert (tmp_path / name).read_text() == '{"of": "another"}'


def test_a_run_that_fails_leaves_the_folder_as_it_was(tmp_path, monkeypatch):
    """Also one that was put into the folder of a cross-validation."""
    register_tiny(monkeypatch)
    photographs(tmp_path / "data", 6)
    given = {**TINY, "epochs": 1, "folds": 2, "out": tmp_path / "folds"}
    minialex.cross_validate(tmp_path / "data", **given)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "folds").iterdir()}
    with pytest.raises(InputError, match=r"would replace \(results.html, predictions.csv\)"):
        minialex.train("shapes:48", **TINY, epochs=1, out=tmp_path / "folds")
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "folds").iterdir()}
    minialex.cross_validate(tmp_path / "data", **given)  # which repeats nothing

    def full(*_):
        raise OSError("no room")

    monkeypatch.setattr("minialex.training.state.State.save", full)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").touch()
    with pytest.raises(OSError, match="no room"):
        minialex.train("shapes:48", **TINY, epochs=1, out=tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"notes.txt", ".lock"}


def test_what_a_killed_run_left_is_replaced(tmp_path, monkeypatch):
    register_tiny(monkeypatch)
    (tmp_path / "config.json").write_text('{"settings": {}}')
    (tmp_path / "steps.csv").write_text("step\n")
    minialex.train("shapes:48", **TINY, epochs=1, out=tmp_path)


def test_a_folder_does_not_hide_kept_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIALEX_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    kept = weight_names.file_of("mine")
    kept.parent.mkdir(parents=True)
    kept.touch()
    Path("mine").mkdir()
    assert weight_names.located(Path("mine")) == kept
    Path("mine", "last.safetensors").touch()
    assert weight_names.located(Path("mine")) == Path("mine")


@pytest.mark.parametrize("words", [["predict", "shapes:2", "--out"], ["evaluate", "--predictions"]])
def test_a_file_that_cannot_be_written_is_found_out_first(tmp_path, capsys, words):
    (tmp_path / "folder.csv").mkdir()
    error = said(capsys, *words, tmp_path / "folder.csv", "--model-file", tmp_path / "none")
    assert "folder.csv is a folder: give a file in it" in error
