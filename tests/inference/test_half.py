"""Weights stored in float16: half the size, nearly the same scores."""

import numpy as np
import pytest
from helpers.tiny import photographs, register_tiny
from helpers.untrained import untrained
from safetensors.numpy import load_file

import minialex
from minialex.errors import InputError


def test_float16_halves_the_file_with_nearly_the_same_scores(tmp_path):
    classifier = untrained(name="cifar10")
    classifier.params["conv1"]["bias"][0] = 1e5  # too large for float16
    for half in (False, True):
        classifier.save(tmp_path / f"{half}.safetensors", half=half)
    sizes = [(tmp_path / f"{half}.safetensors").stat().st_size for half in (False, True)]
    parameters = 4 * classifier.model.network.parameter_count
    assert sizes[0] - sizes[1] > 0.49 * parameters
    again = minialex.load(tmp_path / "True.safetensors", "numpy")
    assert again.dtype == "float32"
    for layer, of in classifier.params.items():
        for name, value in of.items():
            assert again.params[layer][name].dtype == np.float32
            np.testing.assert_allclose(again.params[layer][name], value, rtol=6e-4, atol=1e-7)


def test_a_run_keeps_its_state_in_full_precision(tmp_path, monkeypatch):
    register_tiny(monkeypatch)
    data = photographs(tmp_path / "data", each=6)
    given = {"model": "tiny", "backend": "numpy", "epochs": 1, "progress": False}
    minialex.train(data, out=tmp_path / "run", half=True, **given)
    best, last = (load_file(tmp_path / "run" / f"{n}.safetensors") for n in ("best", "last"))
    assert best["fc6.weight"].dtype == np.float16
    assert last["fc6.weight"].dtype == np.float32
    np.testing.assert_array_equal(best["fc6.weight"], last["fc6.weight"].astype(np.float16))
    (tmp_path / "run" / "last.safetensors").unlink()
    assert minialex.load(tmp_path / "run", "numpy").evaluate().images == 2


def test_a_folder_is_refused_as_a_weight_file(tmp_path):
    with pytest.raises(InputError, match="is a folder: give a file in it"):
        untrained(name="cifar10").save(tmp_path)
