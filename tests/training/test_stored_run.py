"""A run that version 0.1.0 stored after 8 of its 12 steps still loads, evaluates and resumes.

`stored_run_finished.safetensors` is the end of the same run by the same version.
"""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.tiny import register_tiny
from safetensors.numpy import load_file

import minialex
from minialex.cli import main
from minialex.models import registry

STORED = Path(__file__).parent / "stored_run"
FINISHED = Path(__file__).parent / "stored_run_finished.safetensors"


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    """A copy of the stored run, beside the network it needs."""
    register_tiny(monkeypatch)
    return Path(shutil.copytree(STORED, tmp_path / "run"))


def assert_finished(run: Path) -> None:
    """The run is at its last step, with the parameters and velocities of the stored end."""
    assert [row.split(",")[:2] for row in (run / "history.csv").read_text().splitlines()[1:]] == [
        ["1", "6"],
        ["2", "12"],
    ]
    found, wanted = load_file(run / "last.safetensors"), load_file(FINISHED)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        # four steps of float32 on another machine's matrix products
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_it_loads_with_its_weights_class_names_and_recipe(run):
    classifier = minialex.load(run)
    stored = load_file(run / "best.safetensors")
    for layer, of_layer in classifier.params.items():
        for name, value in of_layer.items():
            np.testing.assert_array_equal(
                classifier.devices.to_numpy(value), stored[f"{layer}.{name}"]
            )
    assert list(classifier.class_names) == (STORED / "classes.txt").read_text().splitlines()
    assert classifier.recipe_line.startswith("tiny, ")
    for words in ("16", "crop 12"):
        assert words in classifier.recipe_line


def test_it_evaluates_to_its_stored_errors(run):
    found = minialex.load(run, backend="numpy").evaluate()
    assert found.images == 24
    assert found.top1_error == pytest.approx(0.9166666, abs=1e-6)
    assert found.top5_error == pytest.approx(0.625)


def test_it_resumes_from_python_to_the_stored_end(run):
    settings = {"model": "tiny", "epochs": 2, "lr": 0.01, "backend": "numpy", "progress": False}
    minialex.train("shapes:96", out=run, resume=True, **settings)
    assert_finished(run)


def test_it_resumes_from_the_command_line_to_the_stored_end(run):
    assert main.main(["train", "--resume", str(run), "--max-steps", "12", "--quiet"]) == 0
    assert_finished(run)


def test_it_resumes_with_its_own_recipe_after_the_networks_has_changed(run, monkeypatch):
    variant = registry._VARIANTS["tiny"]
    changed = replace(
        variant.recipe, weight_decay=0.5, schedule="caffe", layer_decays={"fc8": 9.0}, bias_rate=3.0
    )
    monkeypatch.setitem(registry._VARIANTS, "tiny", replace(variant, recipe=changed))
    assert main.main(["train", "--resume", str(run), "--max-steps", "12", "--quiet"]) == 0
    assert_finished(run)
