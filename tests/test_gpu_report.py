"""The report for a CUDA device runs to its end on the stand-in, so that a rare machine is not lost
to a slip of the pen."""

import cuda_on_cpu
import gpu_report
import pytest


@pytest.mark.standin
def test_the_timings_and_the_page(monkeypatch):
    monkeypatch.setattr(gpu_report, "BATCHES", (2,))
    monkeypatch.setattr(gpu_report, "PRECISIONS", ("fp32", "bf16"))
    monkeypatch.setattr(gpu_report, "ROUNDS", 1)
    monkeypatch.setattr(gpu_report, "STEPS", 1)
    monkeypatch.setattr(gpu_report, "theirs", lambda batch, precision: None)
    monkeypatch.setattr(gpu_report, "_pool_bytes", lambda: 0)
    with cuda_on_cpu.dry_run():
        rows = gpu_report.timings()
    assert len(rows) == 4
    found = {"where": {"device": "none"}, "date": "today", "timings": rows, "tests": {"a": "b"}}
    row = {"epoch": 1, "train_loss": 1.0, "val_top1_error": 0.5, "images_per_second": 9.0}
    page = gpu_report.report({**found, "training": {"fp32": [row]}})
    assert page.count("| minialex") == 4
    assert "50.00%" in page


def test_the_peer_is_the_same_network():
    torch = pytest.importorskip("torch")
    from minialex import models
    from minialex.bench.peer import network_in_torch as translated

    for name in ("alexnet", "alexnet-torchvision"):
        network = models.get(name).network
        theirs = translated(network)
        assert sum(p.numel() for p in theirs.parameters()) == network.parameter_count
    size = network.input_shape[0]
    assert theirs(torch.zeros(1, 3, size, size)).shape == (1, 1000)
