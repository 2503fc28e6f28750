"""Reports of steps: steps.csv, TensorBoard, and the user's functions."""

import builtins
import csv
import signal
import sys
from types import SimpleNamespace

import pytest
from helpers.tiny import photographs, register_tiny

import minialex
from minialex.errors import InputError
from minialex.training import watch
from minialex.training.watch import Watch, has_row
from minialex.utils import checkpoint

ARGUMENTS = {"model": "tiny", "backend": "numpy", "batch_size": 8, "progress": False}


@pytest.fixture
def data(tmp_path, monkeypatch):
    """12 photographs per class, 20 to train on: three steps per epoch."""
    register_tiny(monkeypatch)
    return photographs(tmp_path / "data", each=12)


def rows(folder):
    with open(folder / "steps.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def same(folder):
    return [(row["step"], row["loss"], row["learning_rate"]) for row in rows(folder)]


def test_every_step_has_a_row_and_a_call(data, tmp_path):
    steps, epochs = [], []
    given = {**ARGUMENTS, "epochs": 2, "on_step": steps.append, "on_epoch": epochs.append}
    result = minialex.train(data, out=tmp_path / "run", val_fraction=0.2, **given)
    found = rows(tmp_path / "run")
    assert [int(row["step"]) for row in found] == [s.step for s in steps] == [1, 2, 3, 4, 5, 6]
    assert [s.epoch for s in steps] == [1, 1, 1, 2, 2, 2]
    for row, step in zip(found, steps, strict=True):
        assert float(row["loss"]) == pytest.approx(step.loss, rel=1e-6)
        assert float(row["learning_rate"]) == pytest.approx(step.learning_rate, rel=1e-6)
        assert step.images_per_second > 0
    for info, row in zip(epochs, result.history, strict=True):
        assert (info.epoch, info.step, info.run_dir) == (row["epoch"], row["step"], result.run_dir)
        assert info.val_accuracy == 1 - row["val_top1_error"]
    first = steps[:3]
    mean = sum(s.loss * n for s, n in zip(first, (8, 8, 4), strict=True)) / 20
    assert epochs[0].train_loss == pytest.approx(mean)


class Stop(Exception):
    pass


def test_an_epoch_that_is_told_of_is_saved(data, tmp_path):
    saved = []

    def tell(info):
        state = checkpoint.load_metadata(info.run_dir / "last.safetensors")["state"]
        saved.append((info.epoch, state["epoch"]))

    minialex.train(data, **ARGUMENTS, epochs=4, on_epoch=tell, out=tmp_path / "run")
    assert saved == [(epoch, epoch) for epoch in range(1, 5)]


@pytest.mark.parametrize("where", ["on_step", "on_epoch"])
def test_an_exception_in_a_callback_ends_a_resumable_run(data, tmp_path, where):
    """Resumed, it has the rows and weights of a run without a stop."""
    given = {**ARGUMENTS, "val_fraction": 0.2}
    whole = minialex.train(data, out=tmp_path / "whole", epochs=2, **given)

    def stop(info):
        if info.step >= (5 if where == "on_step" else 3):
            raise Stop(info.step)

    with pytest.raises(Stop):
        minialex.train(data, out=tmp_path / "run", epochs=2, **{where: stop}, **given)
    assert len(rows(tmp_path / "run")) == (5 if where == "on_step" else 3)
    told = []
    resumed = minialex.train(
        out=tmp_path / "run", resume=True, progress=False, on_step=lambda info: told.append(info)
    )
    assert [info.step for info in told] == ([6] if where == "on_step" else [4, 5, 6])
    assert same(tmp_path / "run") == same(tmp_path / "whole")
    assert resumed.history[-1]["train_loss"] == whole.history[-1]["train_loss"]


def test_rows_of_repeated_steps_are_removed(tmp_path):
    """As after a kill between two states: later rows, and one that was not finished."""
    path = tmp_path / "steps.csv"
    path.write_text("step,loss,learning_rate,images_per_second\n1,2,3,4\n2,2,3,4\n3,2,3,4\n4,2")
    again = Watch(tmp_path, step=2)
    again.made(3, 1, 0.5, 0.01, 8)
    again.close()
    found = rows(tmp_path)
    assert [row["step"] for row in found] == ["1", "2", "3"]
    assert found[-1]["loss"] == "0.5"


def test_a_signal_leaves_the_rows_up_to_the_state(data, tmp_path, plain_signals):
    def stop(info):
        if info.step == 4:
            signal.raise_signal(signal.SIGTERM)

    given = {**ARGUMENTS, "epochs": 3, "val_fraction": 0.2, "on_step": stop}
    result = minialex.train(data, out=tmp_path / "run", **given)
    assert result.interrupted == "SIGTERM"
    assert len(rows(tmp_path / "run")) == 5  # the signal is seen after the next step


@pytest.mark.parametrize(
    ("step", "every", "kept"),
    [
        *((99_999, None, True), (100_000, None, True), (100_001, None, False)),
        *((100_010, None, True), (1_000_010, None, False), (1_000_100, None, True)),
        *((7, 0, False), (7, 7, True), (8, 7, False)),
    ],
)
def test_long_runs_are_thinned(step, every, kept):
    assert has_row(step, every) is kept


def test_no_rows_unless_requested(data, tmp_path):
    minialex.train(data, out=tmp_path / "run", epochs=1, log_steps=0, **ARGUMENTS)
    assert not (tmp_path / "run" / "steps.csv").exists()


def test_a_full_disk_ends_the_rows_but_not_the_run(tmp_path, monkeypatch, capsys):
    def full(path, *more, **options):
        raise OSError(28, "No space left on device", str(path))

    one = Watch(tmp_path, show=watch.Progress())
    one.made(1, 1, 0.5, 0.01, 8)
    monkeypatch.setattr(builtins, "open", full)
    one.flush()
    one.made(2, 1, 0.5, 0.01, 8)
    one.close()
    monkeypatch.undo()
    assert "stopped writing" in capsys.readouterr().out


def test_tensorboard_gets_steps_and_epochs(data, tmp_path, monkeypatch):
    """With a stand-in for its writer; the next test uses the real one."""
    calls = []

    class Writer:
        def __init__(self, folder, purge_step):
            calls.append((folder, purge_step))

        def add_scalar(self, tag, value, step):
            calls.append((tag, step))

        flush = close = lambda self: None

    board = SimpleNamespace(SummaryWriter=Writer)
    monkeypatch.setitem(sys.modules, "tensorboardX", board)
    given = {**ARGUMENTS, "val_fraction": 0.2, "log": "tensorboard"}
    minialex.train(data, out=tmp_path / "run", epochs=1, **given)
    assert calls[0] == (str(tmp_path / "run" / "tensorboard"), None)
    for tag, steps in {"loss/training": [1, 2, 3], "accuracy/validation": [3]}.items():
        assert [step for name, step in calls[1:] if name == tag] == steps
    calls.clear()
    minialex.train(out=tmp_path / "run", resume=True, epochs=2, progress=False)
    assert calls[0][1] == 4


def test_tensorboard_can_read_the_events(tmp_path):
    pytest.importorskip("tensorboardX")
    one = Watch(tmp_path, log="tensorboard")
    one.made(1, 1, 0.5, 0.01, 8)
    one.close()
    [events] = (tmp_path / "tensorboard").iterdir()
    assert b"loss/training" in events.read_bytes()


def test_a_missing_package_is_reported_before_training(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(InputError, match=r"pip install 'minialex\[tensorboard\]'"):
        minialex.train("shapes:48", out=tmp_path / "run", log="tensorboard")
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match="did you mean 'tensorboard'"):
        minialex.train("shapes:48", log="tensorbord")


def test_another_takes_over_from_a_watch_that_is_lost(tmp_path):
    """As the ranks under mpirun do: one writes, and the others know what it has written."""
    speaks = [True, False]
    first, second = (Watch(tmp_path, silent=lambda i=i: not speaks[i]) for i in range(2))

    def make(step, *watches):
        for one in watches:
            one.made(step, 1, 0.5, 0.1, 8)

    make(1, first, second)
    first.flush()
    second.flush()
    make(2, first, second)
    first.flush()  # but is lost before the others know
    speaks[:] = False, True
    make(3, second)
    second.close()
    assert [row["step"] for row in rows(tmp_path)] == ["1", "2", "3"]
