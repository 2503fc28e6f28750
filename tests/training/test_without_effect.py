"""Options without effect beside another: refused, and left out of older runs' settings."""

import json

import pytest
from helpers.tiny import register_tiny

import minialex
from minialex.errors import InputError
from minialex.training import without_effect
from minialex.training.config import TrainConfig
from minialex.training.resume import inherited

TINY = {"model": "tiny", "batch_size": 16, "backend": "numpy", "progress": False}


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("margin", {"margin": 2.0}),
        ("val_fraction", {"val_fraction": 0.2, "fold": "1/2"}),
        ("shallow", {"shallow": "a", "initial": "b"}),
        ("against_batch", {"against_batch": 64}),
        ("mixup", {"mixup": 0.2, "micro_batch": 1}),
        ("colour_noise", {"colour_noise": 0.2, "freeze": "conv1", "initial": "b"}),
    ],
)
def test_they_are_refused_alone(name, given):
    with pytest.raises(InputError, match=f"^`{name}` has no effect with"):
        TrainConfig(**given)
    kept = without_effect.dropped(given)
    TrainConfig(**kept)
    assert {key for key in given if kept[key] != given[key]} == {name}


def test_those_with_an_effect_are_accepted():
    TrainConfig(margin=2.0, loss="hinge")
    TrainConfig(margin=1.0)
    TrainConfig(val_fraction=0.2)
    TrainConfig(shallow="a")
    TrainConfig(against="curve.csv", against_batch=64)
    TrainConfig(mixup=0.0, micro_batch=1)
    TrainConfig(colour_noise=0.0, freeze="conv1", initial="b")


def test_a_run_of_an_older_version_resumes_with_one(tmp_path, monkeypatch):
    """It accepted a margin of the softmax loss."""
    register_tiny(monkeypatch)
    minialex.train("shapes:48", **TINY, epochs=2, max_steps=2, out=tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["settings"]["margin"] = 2.0
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert len(minialex.train(out=tmp_path, resume=True, progress=False).history) == 2
    with pytest.raises(InputError, match="`margin` has no effect"):
        minialex.train(out=tmp_path, resume=True, margin=2.0, progress=False)


def test_a_float64_run_of_an_older_version_resumes_whatever_its_precision(tmp_path, monkeypatch):
    register_tiny(monkeypatch)
    given = {**TINY, "dtype": "float64", "epochs": 2}
    minialex.train("shapes:48", **given, max_steps=2, out=tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["settings"]["precision"] = "bf16"
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert len(minialex.train(out=tmp_path, resume=True, progress=False).history) == 2
    with pytest.raises(InputError, match="precision tf32 has no effect"):
        minialex.train(out=tmp_path, resume=True, precision="tf32", progress=False)
    config["settings"]["precision"] = "exact"
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert inherited(tmp_path, None, {})["precision"] == "exact"


def test_a_run_with_another_margin_has_a_report(tmp_path, monkeypatch):
    """Nothing is trained for it: its loss, which may be code, is replaced."""
    register_tiny(monkeypatch)
    hinge = {"loss": "hinge", "margin": 2.0}
    minialex.train("shapes:48", **TINY, **hinge, epochs=1, out=tmp_path / "run")
    assert minialex.report(tmp_path / "run").exists()
