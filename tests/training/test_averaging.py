"""The mean of the weights over the last epochs: its value, its use, and resuming."""

from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.tiny import register_tiny
from safetensors.numpy import load_file

import minialex
from minialex.training import loop, trainer
from minialex.training.averaging import Average
from minialex.training.length import Length
from minialex.training.state import State
from minialex.training.trainer import Trainer
from minialex.utils import checkpoint

TINY = {"model": "tiny", "batch_size": 16, "backend": "numpy", "lr": 0.02, "progress": False}


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    register_tiny(monkeypatch)


def train(folder, **settings):
    return minialex.train("shapes:48", **{**TINY, "epochs": 4, "out": folder, **settings})


def averaged(history):
    return [row.get("averaged") for row in history]


def tree(value):
    return {"fc1": {"weight": np.full((2, 3), value, np.float32)}}


def test_each_epoch_has_equal_weight():
    average = Average()
    for left, value in ((2, 3.0), (1, 5.0), (0, 10.0)):
        average = average.after(tree(value), left, last=3)
    assert average.epochs == 3
    assert average.params["fc1"]["weight"].dtype == np.float32
    np.testing.assert_allclose(average.params["fc1"]["weight"], 6.0)


@pytest.mark.parametrize(
    ("before", "left", "exact", "epochs"),
    [
        (0, 3, True, 0),  # not one of the last three yet
        (1, 3, True, 0),  # the run was given more epochs since, or more time
        (1, 3, False, 0),
        (0, 2, True, 1),
        (2, 1, True, 1),  # of a run that was given one epoch more: one of the two is too early
        (1, 1, True, 2),
        (3, 0, True, 1),
        (3, 0, False, 4),  # an estimate: one more than was asked for
        (0, 0, True, 1),  # a run that has recovered earlier weights
    ],
)
def test_the_epochs_that_are_averaged(before, left, exact, epochs):
    average = Average(before, tree(1.0)).after(tree(2.0), left, last=3, exact=exact)
    assert average.epochs == epochs
    assert bool(average) is (epochs > 1)


def test_the_first_weights_are_copied():
    """Updates may happen in place."""
    params = tree(1.0)
    average = Average().after(params, 0, last=2)
    params["fc1"]["weight"][...] = 7
    assert average.params["fc1"]["weight"][0, 0] == 1


@pytest.mark.parametrize(("done", "left"), [(59, 0), (57, 0), (45, 3), (47, 2)])
def test_epochs_that_fit_in_the_time(done, left):
    """A minute less 3 s for the last validation, an epoch of 2 s with another 3 s."""
    history = [{"validation_seconds": 3.0}]
    state = State({}, {}, seconds=done, epoch_seconds=2.0, history=history)
    assert Length(10, 5, minutes=1).epochs_left(state) == left
    assert Length(10, 5).epochs_left(state) == 4


@pytest.mark.parametrize("where", [{}, {"devices": (0, 1)}, {"dtype": "float64"}])
def test_the_mean_is_evaluated_and_saved_while_training_continues_without_it(
    tmp_path, capsys, monkeypatch, where
):
    monkeypatch.setattr(loop, "SAVING", np.inf)  # the state is saved after each of these epochs
    seen = []
    weights = lambda info: seen.append(load_file(info.run_dir / "last.safetensors"))  # noqa: E731
    settings = {"average_epochs": 3, "on_epoch": weights, "progress": True, **where}
    result = train(tmp_path / "mean", **settings)
    plain = train(tmp_path / "plain", **where)
    said = capsys.readouterr().out
    assert "the last 3 averaged" in said
    assert "mean of 3: val loss" in said
    assert max(len(line) for line in said.splitlines() if line.startswith("epoch")) <= 80
    assert averaged(result.history) == [None, None, 2, 3]
    assert averaged(plain.history) == [None] * 4
    assert "averaged" in (tmp_path / "mean" / "history.csv").read_text()
    untouched = load_file(tmp_path / "plain" / "last.safetensors")
    for name, value in untouched.items():  # weights and velocities that are trained
        assert np.array_equal(seen[-1][name], value)
    mean = result.classifier
    for layer, of_layer in mean.params.items():
        for name, value in of_layer.items():
            wanted = np.mean([epoch[f"{layer}.{name}"] for epoch in seen[1:]], axis=0)
            np.testing.assert_allclose(mean.devices.to_numpy(value), wanted, rtol=2e-5, atol=1e-6)
    # the loss of the last row is that of the mean
    found = mean.evaluate(batch_size=16)
    assert found.loss == pytest.approx(result.history[-1]["val_loss"], rel=1e-6)
    assert result.history[-1]["val_loss"] != plain.history[-1]["val_loss"]


def test_a_stopped_and_resumed_run_ends_with_the_same_bits(tmp_path):
    for folder, stops in (("whole", ()), ("parts", (7, 11))):
        train(tmp_path / folder, average_epochs=3, max_steps=stops[0] if stops else None)
        for stop in (*stops[1:], None)[: 2 * len(stops)]:
            minialex.train(out=tmp_path / folder, resume=True, progress=False, max_steps=stop)
    for name in ("last", "best"):
        ours, theirs = (
            load_file(tmp_path / folder / f"{name}.safetensors") for folder in ("whole", "parts")
        )
        assert ours.keys() == theirs.keys()
        assert all(np.array_equal(ours[key], theirs[key]) for key in ours)
    assert any(key.startswith("average.") for key in load_file(tmp_path / "whole/last.safetensors"))
    done = minialex.train(out=tmp_path / "parts", resume=True, progress=False)
    assert averaged(done.history) == [None, None, 2, 3]


def test_without_validation_the_mean_is_the_best(tmp_path):
    result = train(tmp_path / "run", average_epochs=2, val_fraction=0, schedule="constant")
    best = minialex.load(tmp_path / "run", "numpy")
    assert averaged(result.history)[-1] == 2
    for layer, of_layer in best.params.items():
        for name, value in of_layer.items():
            assert np.array_equal(value, result.classifier.params[layer][name])


def test_a_recovering_run_restarts_its_mean(tmp_path, monkeypatch):
    rates = Trainer.rates

    def spoiling(self, state, position):
        if state.step == 7 and state.attempts == 0:
            state.params["conv1"]["weight"][...] = np.nan
        return rates(self, state, position)

    monkeypatch.setattr(Trainer, "rates", spoiling)
    result = train(tmp_path / "run", average_epochs=4)
    assert averaged(result.history) == [None, 2, None, 2]


def test_with_minutes_about_the_last_epochs_are_averaged(tmp_path, monkeypatch):
    ticks = count()
    clock = SimpleNamespace(monotonic=lambda: 0.01 * next(ticks))  # whatever the machine is doing
    monkeypatch.setattr(trainer, "time", clock)
    history = train(tmp_path / "run", epochs=None, minutes=0.008, average_epochs=3).history
    assert len(history) > 6
    assert not any(averaged(history)[:-4])
    assert averaged(history)[-1] in (2, 3, 4)


def test_a_run_that_ends_early_has_no_mean(tmp_path):
    given = {"lr": 1e-9, "schedule": "constant", "stop_early": 1, "epochs": 9}
    result = train(tmp_path / "run", average_epochs=2, **given)
    assert len(result.history) < 8
    assert not any(averaged(result.history))
    assert "averaged" not in checkpoint.load_metadata(tmp_path / "run/last.safetensors")["state"]


def test_the_number_of_epochs_is_part_of_the_run(tmp_path):
    train(tmp_path / "run", average_epochs=3, max_steps=1)
    with pytest.raises(ValueError, match="started with average_epochs=3, not 2"):
        minialex.train(out=tmp_path / "run", resume=True, average_epochs=2)
