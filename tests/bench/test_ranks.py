"""Training steps on several processes, and the model of more."""

import json
import subprocess

import pytest
from helpers.tiny import tiny

from minialex.bench import ranks, scaling
from minialex.bench.scaling import Layer, Network, Step
from minialex.cli.main import main
from minialex.errors import InputError
from minialex.models import Model
from minialex.models.recipe import Recipe
from minialex.parallel import DeviceConfig
from minialex.parallel.world import World

NETWORK = Network(latency=0.001, bandwidth=1000.0)
# ready after 5 and 8 of 10 seconds; on two ranks, whose sums move all bytes once, 4.002 and 2.002 s
STEP = Step(10.0, 1.0, [Layer("fc8", 5.0, 4000), Layer("conv1", 8.0, 2000)])


def measured(count, step, waiting, alone, empty):
    layers = [Layer("fc8", 0.5, 4000), Layer("conv1", 0.8, 2000)]
    return ranks.Measured(count, 1, 1, step, waiting, alone, empty, 6000, 1.0, layers)


def test_one_rank_waits_for_nobody():
    assert scaling.step_seconds(STEP, NETWORK, 1) == 11.0


def test_a_step_ends_with_the_last_sum():
    assert scaling.exchange_seconds(NETWORK, 4000, 2) == pytest.approx(4.002)
    assert scaling.step_seconds(STEP, NETWORK, 2) == pytest.approx(5 + 4.002 + 2.002 + 1)
    fast = Network(0.001, 10_000.0)  # all but a part of the last sum is hidden
    assert scaling.step_seconds(STEP, fast, 2) == 11.0
    messages, moved = 2 * 999 * 0.001, 2 * 0.999 * 2000 / 10_000
    assert scaling.step_seconds(STEP, fast, 1000) == pytest.approx(8 + messages + moved + 1)


def test_the_network_is_found_from_its_sums():
    sizes = [4000, 2000]
    small, large = (
        sum(scaling.exchange_seconds(NETWORK, size, 4) for size in of) for of in ([0, 0], sizes)
    )
    found = scaling.fitted(4, sizes, small, large)
    assert (found.latency, found.bandwidth) == pytest.approx((0.001, 1000.0))


def test_the_text_of_a_comparison():
    rows = [measured(1, 1.2, 0.0, 0.0, 0.0), measured(2, 0.8, 0.1, 0.4, 0.01)]
    found = ranks.Comparison("tiny", "numpy", 16, 2, rows, NETWORK, True)
    text = ranks.text(found)
    assert "1        1  1,200.0      13.3        100%      0.0         0.0" in text
    assert "2        1    800.0      20.0        150%      0.0       100.0     75%" in text
    assert "1,000.0 µs a message and 0.00 GB/s (given)" in text
    document = json.loads(json.dumps(ranks.document(found)))
    assert [row["ranks"] for row in document["predicted"]] == [8, 64, 512]
    assert document["measured"][1]["hidden"] == pytest.approx(0.75)
    eight = scaling.step_seconds(rows[0].model, NETWORK, 8)
    assert document["predicted"][0]["batch"] == 128
    assert document["predicted"][0]["efficiency"] == pytest.approx(1.2 / eight)
    alone = ranks.Comparison("tiny", "numpy", 16, 2, rows[:1], None, False)
    assert "no model: it needs two ranks, or --latency and --bandwidth" in ranks.text(alone)


def test_steps_are_measured_in_this_process():
    model = Model("tiny", tiny(4), Recipe(resize=16, crop=12), 4, {})
    found = ranks.measure(model, 8, 2, DeviceConfig("numpy"), World(), rounds=1)
    assert (found.ranks, found.sent, found.alone, found.hidden) == (1, 0, 0.0, None)
    assert [layer.name for layer in found.ready] == ["fc8", "fc6", "conv2", "conv1"]
    assert found.ready[0].bytes == 4 * (8 * 4 + 4)
    times = [layer.ready for layer in found.ready]
    assert 0 < times[0] < times[-1] == found.backward  # of four micro-batches


def test_each_number_of_ranks_is_a_job(monkeypatch, capsys):
    """The command, but for what mpirun would start."""
    started = []
    answer = ranks.document(
        ranks.Comparison("t", "numpy", 8, 1, [measured(2, 1.0, 0.1, 0.4, 0.1)], None, False)
    )

    def start(command, **options):
        started.append(command)
        return subprocess.CompletedProcess(command, 0, "noise\n" + json.dumps(answer))

    monkeypatch.setattr(ranks, "_mpirun", lambda: ["mpirun"])
    monkeypatch.setattr(ranks.subprocess, "run", start)
    given = ["bench", "alexnet-64", "--batch-size", "8", "--backend", "numpy"]
    assert main([*given, "--ranks", "1,2", "--latency", "2", "--bandwidth", "1"]) == 0
    assert [command[1:3] for command in started] == [["-n", "1"], ["-n", "2"]]
    assert started[1][4:].count("--ranks") == 1
    assert "2.0 µs a message and 1.00 GB/s (given)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "error"),
    [
        (["--ranks", "1,9"], "9 ranks cannot share a batch of 8 images in 8 micro-batches of 1"),
        (["--ranks", "2", "--latency", "2"], "describe one network: give both"),
        (["--ranks", "1,0"], "one of --ranks is 0: it must be a whole number of at least 1"),
    ],
)
def test_mistakes(more, error, capsys):
    assert main(["bench", "alexnet-64", "--batch-size", "8", *more]) == 2
    assert error in capsys.readouterr().err


def test_without_mpirun(monkeypatch):
    monkeypatch.setattr(ranks.shutil, "which", lambda name, path: None)
    with pytest.raises(InputError, match="needs mpirun and mpi4py"):
        ranks._mpirun()


def test_what_mpirun_writes_around_a_jobs_result_is_left_out():
    """A terminal's escape code, for one."""
    assert ranks._document('begun\n{"measured": [{}]}\n\x1b[0m') == {"measured": [{}]}
