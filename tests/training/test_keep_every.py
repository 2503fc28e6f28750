"""--keep-every: which epochs' weights are kept, that they load, and that the run is the same."""

from itertools import pairwise

import numpy as np
import pytest
from helpers.tiny import register_tiny
from safetensors.numpy import load_file

import minialex
from minialex.errors import InputError
from minialex.training import run_folder

TINY = {"model": "tiny", "batch_size": 16, "backend": "numpy", "lr": 0.02, "progress": False}


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    register_tiny(monkeypatch)


def test_every_second_epoch_and_the_start(tmp_path):
    given = {**TINY, "epochs": 5}
    minialex.train("shapes:48", out=tmp_path / "plain", **given)
    assert not (tmp_path / "plain" / "checkpoints").exists()
    kept = tmp_path / "kept"
    minialex.train("shapes:48", out=kept, keep_every=2, max_steps=7, **given)  # in epoch 3
    assert list(run_folder.checkpoints(kept)) == [0, 2]
    result = minialex.train(out=kept, resume=True, progress=False, keep_every=1)
    found = run_folder.checkpoints(kept)
    assert list(found) == [0, 2, 3, 4, 5]
    assert (kept / "checkpoints" / "epoch-0004.safetensors") == found[4]
    before, after = (
        load_file(tmp_path / "plain/last.safetensors"),
        load_file(kept / "last.safetensors"),
    )
    last = load_file(found[5])
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)
        if name in last:
            np.testing.assert_array_equal(last[name], value)
    weights = [load_file(path)["conv1.weight"] for path in found.values()]
    assert all(np.any(a != b) for a, b in pairwise(weights))
    classifier = minialex.load(found[2], backend="numpy")
    assert classifier.class_names == result.classifier.class_names


def test_not_every_file_is_a_checkpoint(tmp_path):
    assert run_folder.checkpoints(tmp_path) == {}
    (tmp_path / "checkpoints").mkdir()
    for name in ("epoch-0010.safetensors", "epoch-2.safetensors", "epoch-x.safetensors", "a.txt"):
        (tmp_path / "checkpoints" / name).touch()
    assert list(run_folder.checkpoints(tmp_path)) == [2, 10]


def test_zero_epochs_between_are_refused(tmp_path):
    with pytest.raises(InputError, match="keep_every is 0"):
        minialex.train("shapes:48", out=tmp_path / "run", keep_every=0, **TINY)
