"""A small GPU suite runs to its end on the stand-in, so that no time on a rare GPU is wasted."""

import json
import subprocess
import sys
from dataclasses import replace
from functools import partial

import pytest

from minialex import models
from minialex.bench import gpu
from minialex.bench.gpu import checks, correct, products, pytorch
from minialex.layers import AveragePool, Conv2D, Dense, MaxPool, ReLU
from minialex.models import registry
from minialex.network import Network

SMALL = gpu.Plan(
    model="tiny",
    precisions=("bf16",),
    batches=(2,),
    kernel_batch=1,
    rounds=1,
    steps=1,
    repeats=2,
    product=16,
    copy_bytes=512,
    packed=60,
    views=(1,),
)


def tiny(classes=10):
    """The kinds of layer in "cifar10", with an eighth of the work."""
    layers = (
        ("conv1", Conv2D(16, 5, pad=2, weight_std=0.01)),
        ("pool1", MaxPool(3, 2, rounding="ceil")),
        ("act1", ReLU()),
        ("conv2", Conv2D(16, 5, pad=2, weight_std=0.01)),
        ("act2", ReLU()),
        ("pool2", AveragePool(3, 2, rounding="ceil")),
        ("conv3", Conv2D(32, 5, pad=2, weight_std=0.01)),
        ("act3", ReLU()),
        ("fc4", Dense(classes, weight_std=0.1)),
    )
    return Network(layers, (16, 16, 3))


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    recipe = replace(models.get("cifar10").recipe, resize=18, crop=16)
    monkeypatch.setitem(registry._VARIANTS, "tiny", registry.Variant(tiny, recipe, "for tests"))


@pytest.mark.standin
def test_the_suite_runs_all_parts(tmp_path):
    found = gpu.run_suite(tmp_path / "gpu.json", SMALL)
    assert json.loads((tmp_path / "gpu.json").read_text()) == found
    failed = {name: part for name, part in found.items() if "failed" in part}
    assert failed == {}
    kernels = found["products bf16"]
    assert {row["layer"] for row in kernels} == {"conv1", "conv2", "conv3", "fc4"}
    assert sum(row["op"] == "input gradient" for row in kernels) == 3
    assert all({"implicit_us", "wgmma_us"} <= set(row) for row in kernels if row["layer"] != "fc4")
    programs = {row["program"] for row in found["steps bf16 2"]}
    ours = {"op by op, implicit", "captured", "captured, whole", "two towers on one device"}
    ours |= {"captured, wgmma", "captured, whole, wgmma"}
    assert ours <= programs
    moved = {row["kernel"] for row in found["memory-bound bf16"]}
    assert {"crops", "pool1", "act1, backward", "loss", "update"} <= moved
    assert found["end to end bf16"]["share"] > 0
    assert "FAILED" not in (text := (tmp_path / "gpu.md").read_text())
    assert text.count("| program |") == 2  # training steps and inference


@pytest.mark.standin
def test_large_batches_are_timed_with_the_fastest_steps_only():
    rows = gpu.steps.steps("bf16", 2, replace(SMALL, all_up_to=1), wgmma=True)
    ours = {row["program"] for row in rows if "PyTorch" not in row["program"]}
    whole = {"captured, whole", "captured, whole, bytes from the host", "captured, whole, wgmma"}
    assert ours == whole


@pytest.mark.standin
def test_a_wrong_result_is_reported_and_not_timed(tmp_path, monkeypatch):
    def wrong(precision):
        raise AssertionError("conv1 forward: off by 1")

    monkeypatch.setattr(gpu.correct, "correctness", wrong)
    found = gpu.run_suite(tmp_path / "gpu.json", SMALL)
    assert set(found) == {"suite", "device", "seconds", "left out", "correct bf16"}
    assert "FAILED: correct bf16: AssertionError: conv1" in (tmp_path / "gpu.md").read_text()


@pytest.mark.standin
def test_wrong_warpgroup_products_are_not_timed(tmp_path, monkeypatch):
    def wrong(precision, way=None):
        if way == "wgmma":
            raise AssertionError("conv1 forward: off by 1")
        return {}

    told = []
    monkeypatch.setattr(gpu.correct, "correctness", wrong)
    monkeypatch.setattr(gpu, "rates", lambda *given: {"operations_per_second": 1.0})
    monkeypatch.setattr(gpu.steps, "steps", lambda *given: told.append(given[-1]))
    monkeypatch.setattr(gpu.products, "products", lambda *given: told.append(given[-1]))
    for module, name in ((gpu.memory_bound, "memory_bound"), (gpu.whole, "end_to_end")):
        monkeypatch.setattr(module, name, lambda *given: [])
    for name in ("inference", "compiled"):
        monkeypatch.setattr(gpu.steps, name, lambda *given: [])
    found = gpu.run_suite(tmp_path / "gpu.json", SMALL)
    assert found["correct bf16 wgmma"]["failed"] == "AssertionError: conv1 forward: off by 1"
    monkeypatch.setattr(gpu.correct, "correctness", lambda *given: {})
    gpu.run_suite(tmp_path / "gpu.json", SMALL)
    assert told == [False, False, True, True]


@pytest.mark.standin
def test_parts_without_time_are_listed(tmp_path):
    found = gpu.run_suite(tmp_path / "gpu.json", replace(SMALL, budget=-1.0))
    assert found["left out"][0] == "correct bf16"
    assert "Not run for lack of time: correct bf16" in (tmp_path / "gpu.md").read_text()


def test_pytorchs_step_learns():
    """PyTorch's code on the CPU, as far as it runs there."""
    torch = pytest.importorskip("torch")
    step = pytorch._step(torch, "cifar10", "bf16", 4, {}, compiled=False, device="cpu")
    step()
    network, x, _, context = pytorch._made(torch, "cifar10", "bf16", 2, {}, "cpu")
    with context():
        assert network(x).dtype == torch.bfloat16


def test_a_wrong_kernel_is_not_timed(tmp_path, monkeypatch):
    from minialex.backends.cuda.backend import CupyBackend

    right = CupyBackend.convolution
    monkeypatch.setattr(
        CupyBackend, "convolution", lambda self, *a, **k: self.scale(right(self, *a, **k), 1.1)
    )
    with pytest.raises(AssertionError, match="conv1 forward: off by"):
        correct.correctness("bf16")


def test_operations_of_the_papers_network():
    listed = list(products.costs(models.get("alexnet").network, 1, 2))
    forward = sum(operations for _, op, operations, _ in listed if op == "forward")
    assert forward == 2 * sum(row.connections for row in models.get("alexnet").network.rows())
    table = products.predictions(1e12, 1e12, batch=1)
    assert table.count("\n") == 2 + len(listed)
    assert ("conv1", "input gradient") not in {(name, op) for name, op, _, _ in listed}


@pytest.mark.standin
def test_checks_and_training_are_parts_too(tmp_path, monkeypatch):
    """The programs that they start take minutes and are replaced."""
    started = []

    def run(command, needed, environment=None):
        started.append(command)
        assert (checks._ROOT / needed).exists()
        return subprocess.CompletedProcess(command, 0, "step 9  loss 0.04\nERROR SUMMARY: 0", "")

    monkeypatch.setattr(checks, "_run", run)
    monkeypatch.setattr(checks.shutil, "which", lambda program: program)
    small = {"precisions": (), "checks": True, "data": "shapes:60", "train_model": "tiny"}
    small |= {"train_precisions": ("bf16",), "train_epochs": 1}
    found = gpu.run_suite(tmp_path / "gpu.json", replace(SMALL, **small))
    assert {name: part for name, part in found.items() if "failed" in part} == {}
    assert found["overfit two towers"] == {"summary": "step 9  loss 0.04"}
    assert found["sanitizer racecheck"] == {"summary": "ERROR SUMMARY: 0"}
    assert found["training bf16"][0]["epoch"] == 1
    assert len(started) == 1 + 5 + 3
    assert "## overfit fp16" in (tmp_path / "gpu.md").read_text()


def test_a_failed_check_shows_the_programs_output(monkeypatch):
    def run(command, needed, environment=None):
        return subprocess.CompletedProcess(command, 1, "2 failed, 3 passed", "")

    monkeypatch.setattr(checks, "_run", run)
    for check in (checks.tests, partial(checks.overfit, "fp32")):
        with pytest.raises(RuntimeError, match="2 failed"):
            check()


def test_the_example_accepts_the_options_of_the_suite():
    command = [sys.executable, "examples/overfit_small.py", "--help"]
    words = checks._run(command, command[1]).stdout
    assert all(option in words for option in ("--backend", "--precision", "--devices"))
    with pytest.raises(FileNotFoundError, match="in a clone"):
        checks._run(command, "examples/none.py")


def test_pytorchs_network_computes_the_same():
    torch = pytest.importorskip("torch")
    from minialex.bench.pytorch import network_in_torch

    network = models.get("alexnet-torchvision").network
    theirs = network_in_torch(network)
    assert sum(p.numel() for p in theirs.parameters()) == network.parameter_count
    size = network.input_shape[0]
    assert theirs(torch.zeros(1, 3, size, size)).shape == (1, 1000)
