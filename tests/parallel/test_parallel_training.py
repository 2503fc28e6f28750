"""Training over several devices: checkpoints, precision, messages."""

import cuda_on_cpu
import numpy as np
import pytest
from helpers.steps import here

import minialex
from minialex.errors import InputError
from minialex.utils import checkpoint

pytestmark = pytest.mark.usefixtures("slim_networks")

SETTINGS = {
    "schedule": "constant",
    "lr": 0.005,
    "data": "shapes:48",
    "model": "cifar10",
    "batch_size": 16,
    "seed": 3,
}


def weights(result):
    """All parameters, unsharded, on the host."""
    classifier = result.classifier
    return {
        f"{layer}.{name}": np.array(classifier.devices.to_numpy(value))
        for layer, of_layer in classifier.params.items()
        for name, value in of_layer.items()
    }


@pytest.fixture(scope="module")
def alone(tmp_path_factory, slim_networks):
    """Two epochs on one device."""
    out = tmp_path_factory.mktemp("alone") / "run"
    return minialex.train(**SETTINGS, backend="numpy", epochs=2, out=out, progress=False)


@pytest.mark.parametrize("scheme", ["data", "hybrid", "towers"])
@pytest.mark.parametrize("backend", ["numpy", "cupy"])
def test_train_on_two_resume_on_one(alone, tmp_path, backend, scheme):
    """A checkpoint does not depend on the number of devices."""
    out = tmp_path / "run"
    two = {"backend": backend, "devices": here([0, 1]), "parallel": scheme}
    minialex.train(**SETTINGS, **two, epochs=1, out=out, progress=False)
    result = minialex.train(
        **SETTINGS, backend="numpy", epochs=2, out=out, resume=True, progress=False
    )
    assert len(result.history) == 2
    wanted = weights(alone)
    for name, value in weights(result).items():
        np.testing.assert_allclose(value, wanted[name], atol=2e-4, err_msg=name)
    for ours, theirs in zip(result.history, alone.history, strict=True):
        assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-3)
        assert ours["l2_loss"] == pytest.approx(theirs["l2_loss"], rel=1e-3)


def test_the_same_run_on_one_and_two_devices_resumes_to_the_same_bits(tmp_path):
    two = {**SETTINGS, "backend": "cupy", "devices": here([0, 1]), "progress": False}
    whole = minialex.train(**two, epochs=2, out=tmp_path / "whole")
    for _ in range(2):
        parts = minialex.train(
            **two, epochs=2, max_steps=2, out=tmp_path / "p", resume=(tmp_path / "p").exists()
        )
    parts = minialex.train(**two, epochs=2, out=tmp_path / "p", resume=True)
    for name, value in weights(whole).items():
        np.testing.assert_array_equal(weights(parts)[name], value)


@pytest.mark.parametrize(
    "precision",
    [
        pytest.param("tf32", marks=pytest.mark.slow),
        pytest.param("bf16", marks=pytest.mark.slow),
        "fp16",
    ],
)
def test_training_in_lower_precision(alone, tmp_path, precision):
    result = minialex.train(
        **SETTINGS,
        backend="cupy",
        precision=precision,
        epochs=2,
        out=tmp_path / "run",
        progress=False,
    )
    assert result.history[-1]["train_loss"] == pytest.approx(
        alone.history[-1]["train_loss"], rel=0.02
    )
    tensors, described = checkpoint.load(tmp_path / "run" / "last.safetensors")
    assert {str(t.dtype) for name, t in tensors.items() if name.startswith("conv")} == {"float32"}
    if precision == "fp16":
        assert described["state"]["good_steps"] > 0
    loaded = minialex.load(tmp_path / "run", "cupy", precision=precision)
    p = loaded.probabilities(np.zeros((1, 32, 32, 3), np.uint8))
    assert p.sum() == pytest.approx(1.0)


def test_a_step_with_overflowing_gradients_is_skipped(tmp_path, monkeypatch):
    monkeypatch.setattr("minialex.training.state.State.loss_scale", 2.0**40)
    result = minialex.train(
        **SETTINGS,
        backend="cupy",
        precision="fp16",
        epochs=1,
        out=tmp_path / "run",
        progress=False,
    )
    assert all(np.isfinite(value).all() for value in weights(result).values())
    _, described = checkpoint.load(tmp_path / "run" / "last.safetensors")
    assert described["state"]["loss_scale"] < 2.0**40


def test_predictions_do_not_depend_on_the_devices(alone):
    image = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    wanted = alone.classifier.probabilities(image)
    features = alone.classifier.features(image)
    for options in (
        {"backend": "cupy"},
        {"backend": "cupy", "devices": here([0, 1]), "parallel": "data"},
        {"backend": "cupy", "devices": here([1, 0]), "parallel": "towers"},
    ):
        loaded = minialex.load(alone.run_dir / "last.safetensors", **options)
        np.testing.assert_allclose(loaded.probabilities(image), wanted, atol=1e-5)
        np.testing.assert_allclose(loaded.features(image), features, atol=1e-3)


@pytest.mark.standin
def test_differing_devices_are_reported(tmp_path, monkeypatch, capsys):
    import cupy

    monkeypatch.setattr(cuda_on_cpu.machine, "names", ["GTX 580", "GTX 680"])
    monkeypatch.setattr(cupy.cuda.runtime, "deviceCanAccessPeer", lambda a, b: 0)
    two = {**SETTINGS, "backend": "cupy", "devices": [0, 1], "epochs": 1}
    minialex.train(**two, out=tmp_path / "run")
    said = capsys.readouterr().out
    assert "2 devices, data: each device takes its own images" in said
    assert "0: GTX 580 with 8 GiB, 1: GTX 680 with 8 GiB" in said
    assert "copies go through the host" in said


@pytest.mark.standin
def test_invalid_device_options_are_refused(tmp_path):
    for options, words in (
        ({"backend": "cupy", "devices": [0, 9]}, "no CUDA device 9"),
        ({"backend": "cupy", "precision": "fp8"}, "unknown precision 'fp8'"),
        ({"devices": [0, 1], "parallel": "pipeline"}, "unknown parallel scheme"),
        ({"backend": "numpy", "precision": "bf16"}, "does not compute in bf16"),
    ):
        with pytest.raises(InputError, match=words):
            minialex.train(**SETTINGS, **options, out=tmp_path / "run")
        assert not (tmp_path / "run").exists()
