"""history.csv: it grows by a row an epoch, and a resumed run makes good what a kill left."""

import csv
import errno
import os

import pytest
from helpers.tiny import register_tiny

import minialex
from minialex.training import loop
from minialex.training.history_file import COLUMNS, HistoryFile
from minialex.training.run_folder import read_history
from minialex.training.state import State
from minialex.utils import atomic

TINY = {"model": "tiny", "batch_size": 16, "backend": "numpy", "lr": 0.02, "progress": False}
CLOCKS = {"seconds", "images_per_second", "load_share", "validation_seconds"}


def rows(count):
    """Of epochs whose numbers have many digits; the third has a note."""
    made = [{name: epoch / 7 for name in COLUMNS} for epoch in range(1, count + 1)]
    for epoch, row in enumerate(made, 1):
        row["epoch"] = epoch
    if count > 2:
        made[2]["changed"] = "step 6: lr 0.1 -> 0.01, and\nmore"
    return made


def text(folder):
    return (folder / "history.csv").read_text(encoding="utf-8")


def begun(folder, history):
    HistoryFile(folder).begin(history)
    return text(folder)


def test_added_rows_are_those_of_a_file_written_at_once(tmp_path, monkeypatch):
    writes, write = [], atomic.write_text
    monkeypatch.setattr(atomic, "write_text", lambda *of: (writes.append(of), write(*of)))
    file = HistoryFile(tmp_path)
    for count in range(1, 7):
        file.add(rows(count))
        whole = tmp_path / f"whole-{count}"
        whole.mkdir()
        assert text(tmp_path) == begun(whole, rows(count))
    of_this = [path for path, _ in writes if path.parent == tmp_path]
    assert len(of_this) == 2  # the first row, and the first with a note


def test_whatever_a_kill_left_is_made_right(tmp_path):
    """Killed while a row was added, or between that and the state that has it."""
    right = begun(tmp_path, rows(4))
    after = begun(tmp_path, rows(5))
    for length in range(len(right) - 20, len(after) + 1):
        (tmp_path / "history.csv").write_text(after[:length], encoding="utf-8")
        assert len(read_history(tmp_path)) <= 5
        file = HistoryFile(tmp_path)
        file.begin(rows(4))
        assert text(tmp_path) == right
        file.add(rows(5))
        assert text(tmp_path) == after
    HistoryFile(tmp_path).begin([])
    assert not (tmp_path / "history.csv").exists()


def test_a_file_that_is_gone_is_written_anew(tmp_path):
    file = HistoryFile(tmp_path)
    file.add(rows(1))
    (tmp_path / "history.csv").unlink()
    file.add(rows(2))
    assert len(read_history(tmp_path)) == 2


def test_a_row_that_was_left_out_is_added_with_the_next(tmp_path):
    """That of an epoch which ended with weights that were not finite."""
    file = HistoryFile(tmp_path)
    file.add(rows(4))
    file.add(rows(6))
    after = text(tmp_path)
    assert after == begun(tmp_path, rows(6))


def test_a_full_disk_gives_a_sentence(tmp_path, monkeypatch):
    file = HistoryFile(tmp_path)
    file.add(rows(1))

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no room to write"):
        file.add(rows(2))
    monkeypatch.undo()
    begun(tmp_path, rows(2))
    assert len(read_history(tmp_path)) == 2


class Killed(BaseException):
    pass


@pytest.mark.parametrize("torn", [False, True])
@pytest.mark.parametrize("epoch", [1, 3])
def test_a_killed_and_resumed_run_has_the_history_of_another(tmp_path, monkeypatch, epoch, torn):
    """Killed at the end of an epoch, before its state was saved."""
    register_tiny(monkeypatch)
    given = {**TINY, "epochs": 4}
    whole, run = tmp_path / "whole", tmp_path / "run"
    minialex.train("shapes:48", out=whole, **given)

    def kill(trainer, state, history_file):
        write(trainer, state, history_file)
        if state.epoch == epoch:
            raise Killed

    write = loop._write_epoch
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_write_epoch", kill)
        with pytest.raises(Killed):
            minialex.train("shapes:48", out=run, **given)
    if torn:
        (run / "history.csv").write_text(text(run)[:-30], encoding="utf-8")
    minialex.train(out=run, resume=True, progress=False, max_steps=3 * epoch - 2)
    assert len(read_history(run)) == epoch - 1  # stopped before the epoch's end, the row is gone
    minialex.train(out=run, resume=True, progress=False)
    ours, theirs = (_without_clocks(text(folder)) for folder in (run, whole))
    assert ours == theirs


def _without_clocks(content):
    found = csv.DictReader(content.splitlines())
    return [{name: x for name, x in row.items() if name not in CLOCKS} for row in found]


def test_the_state_of_a_killed_run_does_not_have_the_row(tmp_path, monkeypatch):
    """The row comes first, so that no saved epoch is without one."""
    register_tiny(monkeypatch)
    seen, save = [], State.save

    def saved(state, path, classifier):
        seen.append((state.epoch, len(read_history(path.parent))))
        save(state, path, classifier)

    monkeypatch.setattr(State, "save", saved)
    minialex.train("shapes:48", out=tmp_path / "run", **TINY, epochs=2, checkpoint_every=0)
    assert all(epoch == count for epoch, count in seen)
    assert seen[-1] == (2, 2)
