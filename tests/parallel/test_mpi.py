"""Ranks under mpirun: the same bits for any number of them, signals, and failures."""

import csv
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.tiny import photographs
from parallel import on_ranks
from safetensors.numpy import load_file

from minialex.models import registry
from minialex.training import run_folder

CLOCKS = {
    *("seconds", "images_per_second", "load_share", "validation_seconds", "exchange_seconds"),
}
MPIRUN = shutil.which(
    "mpirun", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
)
NAMES = ("numpy", "numba", "towers", "bn")
ULFM = ("--with-ft", "ulfm")
ALLOWED = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
pytestmark = pytest.mark.skipif(
    MPIRUN is None or importlib.util.find_spec("mpi4py") is None,
    reason="needs mpi4py and mpirun: pip install 'minialex[mpi]'",
)


def mpirun(ranks, data, out, *names, options=(), timeout=300):
    """It takes ten seconds, but not on a busy machine."""
    out.mkdir(parents=True, exist_ok=True)
    return job(ranks, [on_ranks.__file__, str(data), str(out), *names], options, timeout)


def job(ranks, program, options=(), timeout=300):
    start = [MPIRUN, "--oversubscribe", "--bind-to", "none", *options, "-n", str(ranks)]
    return subprocess.run(
        [*start, sys.executable, *program],
        env={**os.environ, **ALLOWED, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def srun(ranks, data, out, *names):
    """The same in a job of SLURM, which is on this machine; skips the test where there is none."""
    out.mkdir(parents=True, exist_ok=True)
    start = ["srun", "--mpi=pmix", "--immediate=30", "-n", str(ranks)]
    if shutil.which("srun") is None or subprocess.run([*start, "true"]).returncode:
        pytest.skip("needs SLURM with PMIx")
    program = [sys.executable, on_ranks.__file__, str(data), str(out), *names]
    return subprocess.run([*start, *program], capture_output=True, text=True, timeout=900)


def outcome(folder):
    """All that must be the same bits."""
    tensors = {name: x.tobytes() for name, x in load_file(folder / "last.safetensors").items()}
    if not (folder / "history.csv").exists():
        return tensors, []
    with (folder / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    return tensors, [{k: v for k, v in row.items() if k not in CLOCKS} for row in rows]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return photographs(tmp_path_factory.mktemp("data"), size=16)  # which nobody has to resize


@pytest.fixture(scope="module")
def alone(tmp_path_factory, data):
    """The runs of this process."""
    folder = tmp_path_factory.mktemp("alone")
    for name in NAMES:
        on_ranks.train(data, folder, name)
    yield folder
    del registry._VARIANTS["tiny"], registry._VARIANTS["tiny-bn"]


@pytest.fixture(scope="module")
def of_three(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("three")
    done = mpirun(3, data, folder, *on_ranks.RUNS)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_three_ranks_end_with_the_bits_of_one(alone, of_three, name):
    assert outcome(of_three / name) == outcome(alone / name)
    config = json.loads((of_three / name / "config.json").read_text())
    assert config["settings"]["micro_batch"] == 4


def test_a_run_stopped_on_three_goes_on_on_one(alone, of_three, data):
    on_ranks.train(data, of_three, "stopped", max_steps=20, resume=True)
    assert outcome(of_three / "stopped") == outcome(alone / "numpy")


def test_a_signal_to_one_rank_stops_all_at_one_step(alone, of_three, data):
    for rank in range(3):
        seen = json.loads((of_three / f"seen-{rank}.json").read_text())
        assert seen["signal"] == ["SIGTERM", (on_ranks.SIGNALLED - 1) // 3]
    with (of_three / "signal" / "steps.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)][-1] == str(on_ranks.SIGNALLED)
    on_ranks.train(data, of_three, "signal", resume=True)
    assert outcome(of_three / "signal") == outcome(alone / "numpy")


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_any_number_of_ranks_ends_with_the_same_bits(tmp_path, alone, data, ranks):
    done = mpirun(ranks, data, tmp_path, *NAMES)
    assert done.returncode == 0, done.stderr
    for name in NAMES:
        assert outcome(tmp_path / name) == outcome(alone / name), name


@pytest.mark.slow
def test_the_ranks_of_srun_end_with_the_same_bits_and_stop_together(tmp_path, alone, data):
    done = srun(2, data, tmp_path, *NAMES, "signal")
    assert done.returncode == 0, done.stderr
    for name in NAMES:
        assert outcome(tmp_path / name) == outcome(alone / name), name
    on_ranks.train(data, tmp_path, "signal", resume=True)
    assert outcome(tmp_path / "signal") == outcome(alone / "numpy")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "said"),
    [("raise-1-3", "rank 1 on "), ("stop-1-3", "rank 1 on "), ("kill-1-3", "task 1: Killed")],
)
def test_a_fault_under_srun_ends_the_job_and_names_the_rank(tmp_path, data, fault, said):
    done = srun(2, data, tmp_path, fault)
    assert done.returncode != 0
    assert said in done.stderr


@pytest.mark.slow
def test_a_run_stopped_on_four_goes_on_on_two(tmp_path, alone, data):
    for ranks, name in ((4, "stopped"), (2, on_ranks.GOES_ON)):
        done = mpirun(ranks, data, tmp_path, name)
        assert done.returncode == 0, done.stderr
    assert outcome(tmp_path / "stopped") == outcome(alone / "numpy")


@pytest.mark.slow
def test_two_ranks_on_the_cuda_stand_in(tmp_path, alone, data):
    on_ranks.train(data, tmp_path / "alone", "cuda")
    done = mpirun(2, data, tmp_path, "cuda", "nccl")
    assert done.returncode == 0, done.stderr
    for name in ("cuda", "nccl"):
        assert outcome(tmp_path / name) == outcome(tmp_path / "alone" / "cuda"), name


@pytest.mark.slow
def test_an_error_on_one_rank_ends_the_job_and_names_it(tmp_path, data):
    done = mpirun(2, data, tmp_path, "raise-1-3")
    assert done.returncode != 0
    assert "minialex: error: rank 1 on " in done.stderr
    assert "Planted: planted" in done.stderr


@pytest.mark.slow
def test_an_error_of_all_ranks_is_printed_once(tmp_path, data):
    done = mpirun(3, tmp_path / "no such data", tmp_path, "numpy")
    assert done.returncode != 0
    assert done.stderr.count("no such data") == 1


def survived(done, folder, alone, names, ranks):
    """Assert that the runs `names`, each of which lost a rank, have the bits of `alone`."""
    seen = sorted(path.name for path in folder.glob("seen-*"))
    assert seen == [f"seen-{i}.json" for i in range(ranks - len(names))], done.stderr
    assert not json.loads((folder / "seen-0.json").read_text())["finalizes"]  # it may hang
    for name in names:
        assert outcome(folder / name) == outcome(alone / "numpy"), name
        steps = (folder / name / "steps.csv").read_text()
        assert steps.count("\n") == 21, name  # no step was repeated or left out


def test_the_survivors_of_lost_ranks_end_with_the_same_bits(tmp_path, alone, data):
    names = ["kill-1-3", "stop-2-9", "raise-0-14"]  # numbers of the ranks that are left
    done = mpirun(4, data, tmp_path, *names, options=ULFM)
    survived(done, tmp_path, alone, names, 4)
    assert done.stderr.count("minialex: error:") == 1
    assert "minialex: error: rank 0 on " in done.stderr
    assert "Planted: planted" in done.stderr


TAKEN_OVER = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = sys.argv[4:]
if sys.argv[3] == "owner":
    import errno, fcntl
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")
    fcntl.flock = refuse
from parallel import on_ranks
from minialex.errors import InputError
from minialex.parallel.world import open_world
from minialex.training.run_folder import locked

rank, folder = open_world().rank, Path(sys.argv[2]) / "numpy"

def on_step(info):
    if rank == 0 and info.step == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if rank == 1 and info.step == 8:
        child = os.fork()  # another process
        if not child:
            try:
                with locked(folder):
                    os._exit(1)
            except InputError:
                os._exit(0)
        (folder.parent / "kept-out").write_text(str(os.waitpid(child, 0)[1]))

on_ranks.train(sys.argv[1], sys.argv[2], "numpy", on_step=on_step)
"""


@pytest.mark.parametrize("kind", ["flock", "owner"])
def test_the_folder_stays_locked_after_the_first_rank_is_lost(tmp_path, alone, data, kind):
    """And not longer than the others train in it."""
    paths = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]
    done = job(3, ["-c", TAKEN_OVER, str(data), str(tmp_path), kind, *paths], ULFM)
    assert (tmp_path / "kept-out").read_text() == "0", done.stderr
    assert not (tmp_path / "numpy" / ".owner").exists()
    with run_folder.locked(tmp_path / "numpy"):
        assert outcome(tmp_path / "numpy") == outcome(alone / "numpy")


@pytest.mark.slow
def test_ranks_lost_at_random_moments_leave_no_trace(tmp_path, alone, data, capsys):
    """MINIALEX_TEST_FAULTS sets how many."""
    count, first = int(os.environ.get("MINIALEX_TEST_FAULTS", 9)), time.time_ns() % 10**6
    faults = [f"random-{('kill', 'stop', 'raise')[i % 3]}-{first + i}" for i in range(count)]
    jobs, lost = range(0, count, 3), 0
    for at in jobs:
        names = faults[at : at + 3]
        done = mpirun(4, data, tmp_path / f"{at}", *names, options=ULFM, timeout=900)
        seen = list((tmp_path / f"{at}").glob("seen-*"))
        assert seen, (names, done.stderr)
        lost += 4 - len(seen)
        for name in names:
            assert outcome(tmp_path / f"{at}" / name) == outcome(alone / "numpy"), name
    with capsys.disabled():
        print(f"\n{len(jobs)} jobs, {lost} ranks lost, all {count} runs equal")
    assert 2 * lost >= count  # some of the moments come after the end of a run


def test_a_rank_that_hangs_is_named(tmp_path, alone, data):
    done = mpirun(2, data, tmp_path, "stop-1-3")
    assert done.returncode == 2
    assert re.findall("minialex: error: .*", done.stderr) == [
        f"minialex: error: rank 1 on {socket.gethostname()} has not answered for 4 s: all ranks end"
    ]
    on_ranks.train(data, tmp_path, "stop-1-3", resume=True)
    assert outcome(tmp_path / "stop-1-3") == outcome(alone / "numpy")


@pytest.mark.parametrize("options", [(), ULFM])
def test_a_full_disk_ends_all_ranks_with_one_sentence(tmp_path, alone, data, options):
    done = mpirun(2, data, tmp_path, "full-0-5", options=options)
    assert done.returncode == 2
    [error] = re.findall("minialex: error: .*", done.stderr)
    assert "too large" in error
    on_ranks.train(data, tmp_path, "full-0-5", resume=True)
    assert outcome(tmp_path / "full-0-5")[0] == outcome(alone / "numpy")[0]


GARBAGE = """
import gc
import numpy as np
from minialex import losses, models
from minialex.optim import SGD, Rates
from minialex.parallel import DeviceConfig
from minialex.parallel.world import open_world
from minialex.training.step import TrainStep

model, world = models.get("cifar10"), open_world()
devices = DeviceConfig("numpy").open(model.network, True, world)
loss, sgd = losses.SoftmaxCrossEntropy(), SGD(model.recipe)
step = TrainStep(model.network, devices, loss, sgd, micro_batch=2, world=world)
state = step.init()
batch = np.zeros((8, *model.network.input_shape), np.float32), np.zeros(8, np.int64)
for _ in range(2):
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    step(state, batch, Rates(0.01, 0.01, 0.0))
world.together(gc.collect)  # which lets go of the last step's sums
kinds = {type(one) for one in gc.garbage}  # the arrays in them are not listed
print("left", [kind.__name__ for kind in kinds if kind.__module__.startswith("minialex.parallel")])
"""


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_step_leaves_no_sums_to_the_garbage_collector(ranks):
    """It would run after several steps, whose gradients would all be in memory."""
    done = job(ranks, ["-c", GARBAGE])
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("left []") == ranks, done.stdout


def test_bench_starts_jobs_of_ranks():
    """Without a launcher of its own, as a user types it: `bench` starts mpirun itself."""
    words = ["bench", "alexnet-32", "--batch-size", "8", "--rounds", "1", "--backend", "numpy"]
    done = subprocess.run(
        [sys.executable, "-m", "minialex", *words, "--ranks", "1,2", "--json"],
        env={**os.environ, **ALLOWED, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert [row["ranks"] for row in json.loads(done.stdout)["measured"]] == [1, 2]
