"""The GPU suite runs to its end on the stand-in, small, so that a rare machine is not lost."""

import json

import pytest

from minialex.bench import gpu

SMALL = gpu.Plan(
    model="cifar10",
    precisions=("bf16",),
    batches=(2,),
    kernel_batch=1,
    rounds=1,
    steps=1,
    product=16,
    copy_bytes=512,
)


@pytest.mark.standin
def test_the_suite(tmp_path):
    found = gpu.run_suite(tmp_path / "gpu.json", SMALL)
    assert json.loads((tmp_path / "gpu.json").read_text()) == found
    failed = {name: part for name, part in found.items() if "failed" in part}
    assert failed == {}
    kernels = found["kernels bf16"]
    assert {row["layer"] for row in kernels} == {"conv1", "conv2", "conv3", "fc4"}
    assert sum(row["op"] == "input gradient" for row in kernels) == 3
    assert all("implicit_us" in row for row in kernels if row["layer"] != "fc4")
    programs = {row["program"] for row in found["steps bf16 2"]}
    assert {"op by op, implicit", "captured", "two towers on one device"} <= programs


def test_a_wrong_kernel_is_not_timed(tmp_path, monkeypatch):
    from minialex.backends.cupy_backend import CupyBackend

    right = CupyBackend.convolution
    monkeypatch.setattr(
        CupyBackend, "convolution", lambda self, *a, **k: self.scale(right(self, *a, **k), 1.1)
    )
    with pytest.raises(AssertionError, match="conv1 forward: off by"):
        gpu.correctness("bf16")


def test_the_operations_of_the_papers_network():
    from minialex import models

    listed = list(gpu.floors(models.get("alexnet").network, 1, 2))
    forward = sum(operations for _, op, operations, _ in listed if op == "forward")
    assert forward == 2 * sum(row.connections for row in models.get("alexnet").network.rows())
    table = gpu.predictions(1e12, 1e12, batch=1)
    assert table.count("\n") == 2 + len(listed)
    assert ("conv1", "input gradient") not in {(name, op) for name, op, _, _ in listed}
