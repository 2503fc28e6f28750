"""Threads: one per core, and safe alongside the user's own threads."""

import os
import subprocess
import sys

import numba
import numpy as np
import pytest

from minialex import backends
from minialex.backends.numba.execution import NumbaExecution
from minialex.errors import InputError
from minialex.utils import cores, threads

MOST = backends.get("numba").threads


def test_threads_spin_briefly_unless_the_user_set_it(monkeypatch):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    with threads.short_waits():
        assert int(os.environ["GOMP_SPINCOUNT"]) < 10_000
    assert "GOMP_SPINCOUNT" not in os.environ
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    with threads.short_waits():
        assert "GOMP_SPINCOUNT" not in os.environ


def test_a_prediction_before_all_else_leaves_later_threads_their_short_waits(monkeypatch):
    """Its kernels start no OpenMP, which reads the variable when it is loaded."""
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(NumbaExecution, "_process", None)
    monkeypatch.setattr(NumbaExecution, "_has_pool", False)
    found, start = [], numba.set_num_threads

    def set_num_threads(threads):
        found.append(os.environ.get("GOMP_SPINCOUNT"))
        start(threads)

    monkeypatch.setattr(numba, "set_num_threads", set_num_threads)
    b, x = backends.get("numba"), np.ones((1, 4, 4, 8), np.float32)
    b.for_inference().response_norm(x, 5, 2.0, 1.0, 0.75, 1)
    assert not found
    for _ in range(2):
        b.response_norm(x, 5, 2.0, 1.0, 0.75, 1)
    assert found == ["2000", None]


def test_threads_follow_the_cores_of_the_process():
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system binds no process to cores")
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from minialex.utils.cores import usable_cores; print(usable_cores())"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "1\n"


@pytest.mark.parametrize(
    ("limit", "wanted"),
    [("150000 100000", 2), ("50000 100000", 1), ("400000 100000", 4), ("max 100000", None)],
)
def test_threads_follow_the_limit_of_the_container(tmp_path, limit, wanted):
    (tmp_path / "cpu.max").write_text(limit + "\n")
    assert cores._quota(tmp_path) == wanted
    assert cores._quota(tmp_path / "elsewhere") is None


def test_zero_threads_gives_a_one_sentence_error():
    with pytest.raises(InputError, match=f"ask for at most {MOST}"):
        backends.get("numba", threads=MOST + 1)
    with pytest.raises(InputError, match="0 threads were asked for"):
        backends.get("numba", threads=0)
    with pytest.raises(InputError, match='"cupy" has no thread setting'):
        backends.get("cupy", threads=2)


def test_our_products_use_one_blas_thread_and_numpy_keeps_its_own():
    code = """
from threadpoolctl import ThreadpoolController
import numpy
before = ThreadpoolController().info()
from minialex import backends
backends.get("numba")
after = {lib["filepath"]: lib["num_threads"] for lib in ThreadpoolController().info()}
assert all(after[lib["filepath"]] == lib["num_threads"] for lib in before), after
own = [n for path, n in after.items() if path not in {lib["filepath"] for lib in before}]
assert own in ([], [1]), after
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_several_python_threads_may_call_at_once():
    code = """
import threading, numpy as np
from minialex import backends
b, x = backends.get("numba"), np.random.default_rng(0).normal(size=(4, 30, 30, 8)).astype("f4")
wanted, bad = b.response_norm(x, 5, 2.0, 1.0, 0.75, 1)[0], []
def work():
    for _ in range(100):
        if (b.response_norm(x, 5, 2.0, 1.0, 0.75, 1)[0] != wanted).any():
            bad.append(1)
workers = [threading.Thread(target=work) for _ in range(4)]
[w.start() for w in workers], [w.join() for w in workers]
assert not bad
"""
    environment = {**os.environ, "NUMBA_THREADING_LAYER": "workqueue"}  # the least patient one
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
