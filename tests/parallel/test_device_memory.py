"""Memory of a training step on a device: the estimate, and the error if it is too small."""

import gc

import cuda_on_cpu
import numpy as np
import pytest
from helpers.steps import step_peak

import minialex
from minialex import backends, models, parallel
from minialex.errors import TrainingError
from minialex.training import memory_estimate

NAMES = ["alexnet", "alexnet-2012", "alexnet-64", "alexnet-torchvision", "alexnet-bn"]
NAMES += ["alexnet-64-bn"]


@pytest.mark.standin
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", "float32"), ("bf16", "float32"), ("fp32", "float64")]
)
def test_the_estimate_is_close_to_what_a_step_uses(name, precision, dtype):
    network, b = models.get(name, 100).network, backends.get("cupy", 0, precision)
    measured = step_peak(network, 0, precision, batch=160, dtype=dtype)
    estimate = memory_estimate.step_bytes(network, 160, b, dtype=dtype)
    print(f"{name} {precision} {dtype}: {estimate / measured:.2f} of {measured / 1e9:.2f} GB")
    assert 0.9 * measured <= estimate < 1.4 * measured


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_each_slot_of_the_optimiser_counts(dtype):
    network, b = models.get("alexnet-64", 10).network, backends.get("cupy")
    one, two = (memory_estimate.step_bytes(network, 16, b, slots, dtype) for slots in (1, 2))
    assert two - one == np.dtype(dtype).itemsize * network.parameter_count


@pytest.mark.standin
def test_the_batch_that_fits_in_float64_is_half_as_large(monkeypatch):
    network = models.get("alexnet", 10).network
    devices = parallel.open_devices(network, "cupy", 0)
    monkeypatch.setattr(cuda_on_cpu.machine, "memory", [6 << 30] * 2)
    said = [
        memory_estimate.too_little(network, 1000, devices, 1, dtype=dtype)
        for dtype in ("float32", "float64")
    ]
    single, double = (int(text.split("batch_size=")[1]) for text in said)
    assert 0.35 * single < double < 0.5 * single  # the parameters take twice the memory, too


@pytest.mark.standin
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_device_too_small_names_the_batch_that_fits(tmp_path, monkeypatch, dtype):
    """... and that batch does train."""
    machine, network = cuda_on_cpu.machine, models.get("cifar10", 12).network
    settings = {"data": "shapes:300", "model": "cifar10", "backend": "cupy", "max_steps": 1}
    gc.collect()
    settings["dtype"] = dtype
    room = memory_estimate.step_bytes(network, 120, backends.get("cupy"), dtype=dtype)
    monkeypatch.setattr(machine, "memory", [machine.used[d] + room for d in range(2)])
    with pytest.raises(TrainingError, match="too small for a batch of 300") as caught:
        minialex.train(**settings, batch_size=300, out=tmp_path / "a", progress=False)
    assert "\n" not in str(caught.value)
    fits = int(str(caught.value).split("batch_size=")[1])
    assert 45 < fits < 120
    del caught  # and with it the arrays in the error's frames
    gc.collect()
    minialex.train(**settings, batch_size=fits, out=tmp_path / "b", progress=False)
    monkeypatch.setattr(machine, "memory", [machine.used[d] + (20 << 20) for d in range(2)])
    with pytest.raises(TrainingError, match="and for any other"):
        minialex.train(**settings, batch_size=300, out=tmp_path / "c", progress=False)
