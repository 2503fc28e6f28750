"""The sweep over learning rates."""

import numpy as np
import pytest
from helpers.tiny import register_tiny

import minialex
from minialex.cli import main
from minialex.errors import InputError
from minialex.training import find_rate
from minialex.training.find_rate import RateSearch

RATES = tuple(np.geomspace(1e-4, 1, 50))


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    register_tiny(monkeypatch)


def test_the_suggestion_is_a_third_of_the_rate_at_the_lowest_loss():
    losses = tuple(2.3 - 1.5 * np.exp(-((np.log10(r) + 2) ** 2)) for r in RATES)
    assert RateSearch(RATES, losses, 2.3).best == pytest.approx(0.01 / 3, rel=0.15)


def test_without_a_falling_loss_no_rate_is_suggested():
    assert RateSearch(RATES, (2.3,) * 50, 2.3).best is None


def test_a_sweep_ends_where_the_loss_explodes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = minialex.find_lr("shapes:48", model="tiny", backend="numpy", lr=1.0, progress=False)
    assert 5 < len(found.rates) < 100
    assert all(np.isfinite(found.losses))
    assert found.rates[0] == pytest.approx(1e-3)
    assert not list(tmp_path.iterdir())  # nothing is saved


def test_the_command(capsys):
    words = ["--model", "tiny", "--backend", "numpy", "--quiet", "--find-lr"]
    assert main.main(["train", "--data", "shapes:48", *words]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(
        ("suggested learning rate: --optimizer adam --lr", "the loss fell too little")
    )
    assert main.main(["train", "--resume", "x", "--find-lr"]) == 2


def test_a_sweep_with_frozen_layers_trains_the_others(tmp_path, capsys):
    given = {"model": "tiny", "backend": "numpy"}
    source = minialex.train("shapes:48", **given, epochs=1, progress=False, out=tmp_path / "run")
    given = {"initial": source.run_dir, "freeze": "conv2", "backend": "numpy"}
    found = minialex.find_lr("shapes:48", steps=3, **given)
    assert "conv2 and all before it are frozen" in capsys.readouterr().out.replace("relu2", "conv2")
    assert len(found.losses) == 3


def test_a_sweep_has_the_same_rate_in_all_layers(tmp_path, monkeypatch):
    """As `--lr` has: training with its suggestion would otherwise be another than it measured."""
    given = {"model": "tiny", "backend": "numpy", "optimizer": "sgd"}
    source = minialex.train("shapes:48", **given, epochs=1, progress=False, out=tmp_path / "run")
    seen = []
    sweep = find_rate._sweep
    monkeypatch.setattr(find_rate, "_sweep", lambda *a: seen.append(a[0].recipe) or sweep(*a))
    start = {"initial": source.run_dir, "replace_classifier": True, "backend": "numpy"}
    minialex.find_lr("shapes:48", steps=3, progress=False, **start)
    assert seen[0].layer_rates == {}


def test_a_sweep_needs_steps_and_may_end_at_once():
    with pytest.raises(InputError, match="steps is 0"):
        minialex.find_lr("shapes:48", steps=0)
    assert RateSearch((), (), 2.3).best is None
    assert str(RateSearch(RATES, (99.0,) * 50, 2.3)).count("\n") == 25
