"""Exported weights still know which images they were trained on."""

import pytest
from helpers.tiny import photographs, register_tiny

import minialex
from minialex.exchange.write import write
from minialex.inference.classifier import to_portable


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".onnx"])
def test_exported_weights_are_evaluated_on_unseen_images(suffix, tmp_path, monkeypatch):
    if suffix == ".onnx":
        pytest.importorskip("onnx", reason="onnx is not installed")
    register_tiny(monkeypatch)
    folder = photographs(tmp_path / "photographs")
    given = {"model": "tiny", "backend": "numpy", "epochs": 1, "progress": False}
    run = minialex.train(folder, out=tmp_path / "run", **given).run_dir
    own = minialex.load(run, backend="numpy").evaluate(folder)
    write(to_portable(minialex.load(run, "numpy")), tmp_path / f"net{suffix}")
    judged = minialex.load(tmp_path / f"net{suffix}", backend="numpy").evaluate(folder)
    assert judged.images == own.images < len(minialex.open_data(folder).whole)
