"""Exported weights still know which images they were trained on."""

from dataclasses import replace

import pytest
from helpers.portables import drawn
from helpers.tiny import photographs, register_tiny, tiny

import minialex
from minialex.errors import InputError
from minialex.exchange.pytorch import file, writer
from minialex.exchange.read import read
from minialex.exchange.write import write
from minialex.inference.classifier import to_portable
from minialex.utils import checkpoint


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


def with_images(count):
    """A model with a list of training images of 100 bytes each."""
    images = [f"{i:0>96}" for i in range(count)]
    return replace(drawn(tiny(3)), class_names=("a", "b", "c"), data={"images": images})


@pytest.mark.parametrize("suffix", ["safetensors", "pth", "onnx"])
def test_a_long_list_of_images_does_not_hide_the_description(suffix, tmp_path):
    """Of 18 MB; without its description the network would be unknown, or taken for another."""
    if suffix == "onnx":
        pytest.importorskip("onnx", reason="onnx is not installed")
    portable = with_images(180_000)
    write(portable, tmp_path / f"net.{suffix}")
    found = read(tmp_path / f"net.{suffix}")
    assert (found.class_names, found.data) == (portable.class_names, portable.data)


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_a_description_that_could_not_be_read_is_not_written(suffix, tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "LARGEST_TEXTS", 50_000)
    monkeypatch.setattr(checkpoint, "LARGEST_HEADER", 50_000)
    with pytest.raises(InputError, match=r"would have a (header|description) of 1.*: (ch|ex)"):
        write(with_images(1000), tmp_path / f"net.{suffix}")
    assert not any(tmp_path.iterdir())


def test_a_description_that_is_damaged_or_too_long_is_an_error(tmp_path, monkeypatch):
    """Else the weights would pass for another program's."""
    path = tmp_path / "net.pth"
    write(with_images(1000), path)
    monkeypatch.setattr(file, "LARGEST_TEXTS", 50_000)
    with pytest.raises(InputError, match=r"bytes in archive/minialex.json, which is too many"):
        read(path)
    monkeypatch.undo()
    path.write_bytes(path.read_bytes().replace(b'"minialex.network"', b'"minialex.network?'))
    with pytest.raises(InputError, match=r"net.pth is damaged"):
        read(path)
