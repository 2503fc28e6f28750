"""The CUDA backend on the real CuPy, in a Python that has it: no GPU is needed.

$MINIALEX_TEST_CUPY is that Python: then CuPy must run there. By default it is the Python that runs
the tests, and without CuPy these tests are skipped; `.ci/run` makes an environment for them.
"""

import os
import re
import subprocess
import sys
import types
from functools import cache
from pathlib import Path

import cuda_on_cpu
import null_cuda
import pytest
from cuda_on_cpu import fake_cupy, surface
from cuda_on_cpu.machine import Machine

from minialex.bench.gpu import expected

ROOT = Path(__file__).parents[1]
GIVEN = "MINIALEX_TEST_CUPY"
PYTHON = os.environ.get(GIVEN, sys.executable)
LIMIT = 1800.0  # seconds of a program that hangs
pytestmark = [
    pytest.mark.standin,
    pytest.mark.skipif(bool(cuda_on_cpu.why_not()), reason=str(cuda_on_cpu.why_not())),
]


def run(*arguments: str, **more: str) -> subprocess.CompletedProcess:
    """The Python that has CuPy, with the null CUDA."""
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
    environment = {**os.environ, "PYTHONPATH": path, "MINIALEX_TEST_NULL_CUDA": "1", **more}
    environment.pop("PYTEST_XDIST_WORKER", None)
    command = [PYTHON, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=LIMIT
    )


@cache
def reason() -> str | None:
    done = run("-c", "import null_cuda; print(null_cuda.why_not() or '')")
    assert done.returncode == 0, done.stderr[-3000:]  # it cannot even say why not
    return done.stdout.strip()


def required() -> None:
    """Skip a test if CuPy cannot run; fail if a Python was named for it."""
    if reason():
        (pytest.fail if GIVEN in os.environ else pytest.skip)(f"{PYTHON}: {reason()}")


@pytest.fixture
def _cupy():
    required()


def test_a_python_that_was_named_must_have_cupy(monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "reason", lambda: "CuPy is not installed")
    monkeypatch.setenv(GIVEN, PYTHON)
    with pytest.raises(pytest.fail.Exception, match="CuPy is not installed"):
        required()
    monkeypatch.delenv(GIVEN)
    with pytest.raises(pytest.skip.Exception):
        required()


def test_the_libraries_are_built_again_for_another_command(monkeypatch, tmp_path):
    """The folder's name depends on sources, commands, and what CuPy needs."""
    built = []
    monkeypatch.setattr(null_cuda, "_build_library", lambda folder, name: None)
    monkeypatch.setattr(null_cuda.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(null_cuda.patch, "needed", lambda prefix: [])
    built.append(null_cuda._build())
    monkeypatch.setattr(null_cuda.patch, "needed", lambda prefix: ["cublasNew"])
    built.append(null_cuda._build())
    right = null_cuda._command
    monkeypatch.setattr(null_cuda, "_command", lambda *given: [*right(*given), "-O3"])
    built.append(null_cuda._build())
    assert len(set(built)) == 3


@pytest.mark.usefixtures("_cupy")
def test_cupy_has_all_that_the_stand_in_has():
    done = run("-m", "null_cuda")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == ""


@pytest.mark.usefixtures("_cupy")
def test_late_tests_on_a_gpu_are_skipped():
    plain = ["-q", "-p", "no:cacheprovider", "-n", "0", "-m", "gpu"]
    done = run("-m", "pytest", *plain, "tests/test_null_cuda.py", MINIALEX_TEST_GPU_SECONDS="0")
    assert re.search(r"^\d+ skipped in", done.stdout, re.M), done.stdout[-3000:]


@pytest.mark.slow
@pytest.mark.usefixtures("_cupy")
def test_the_gpu_suite_on_the_real_cupy(tmp_path):
    """All parts with a tiny network, from the checks to the tables; nothing may fail."""
    done = run("-m", "helpers.rehearsal", str(tmp_path / "gpu.json"))
    assert done.returncode == 0, done.stderr[-6000:]


@pytest.mark.slow
@pytest.mark.usefixtures("_cupy")
def test_the_backend_on_the_real_cupy():
    """Every op, captured steps, several devices, and the rules of the null CUDA."""
    what = ["tests/test_null_cuda.py", "tests/backends", "tests/test_fusion.py"]
    what += ["tests/parallel/test_placements.py", "tests/parallel/test_parallel_training.py"]
    plain = ["-q", "-p", "no:cacheprovider", "-n", "0", "-m", "gpu and not slow"]
    done = run("-m", "pytest", *plain, *what)
    assert done.returncode == 0, done.stdout[-6000:]
    assert " passed" in done.stdout


@pytest.mark.slow
@pytest.mark.usefixtures("_cupy")
def test_the_counts_of_the_expected_times():
    """Registers and instructions are those that the compiler named there generates."""
    done = run("-m", "minialex.bench.gpu.sass")
    if "nvdisasm is missing" in done.stderr:
        pytest.skip("nvdisasm is not installed: pip install nvidia-cuda-nvdisasm")
    assert done.returncode == 0, done.stderr[-3000:]
    first, *rows = done.stdout.splitlines()
    if first != "NVRTC {}.{}".format(*expected.COUNTED_WITH):
        pytest.skip(f"counted with another compiler than {first}")
    found = {}
    for row in rows[2:]:
        family, tile, by, *counts = (cell.strip() for cell in row.strip("|").split("|"))
        found.setdefault((family, int(tile)), {})[by] = (int(counts[0]), int(counts[1]))
    wanted = {
        (expected.FAMILIES[op], tile): {"mma": mma, "wgmma": wgmma}
        for (op, tile), (mma, wgmma) in expected.COUNTS.items()
    }
    assert found == wanted


def planted(change) -> list[str]:
    """The differences between two stand-ins, one of them changed."""
    ours, real = (fake_cupy.build(Machine()) for _ in range(2))
    change(ours)
    return surface.differences(ours, real)


def test_a_name_or_argument_that_cupy_has_not_is_found():
    def add_name(ours):
        ours.cuda.Stream.query_all = lambda self: None

    def add_argument(ours):
        ours.cuda.alloc = lambda size, aligned=256: None

    def add_position(ours):
        ours.cuda.device = types.SimpleNamespace(get_cublas_handle=lambda device: None)

    assert planted(lambda ours: None) == []
    assert planted(add_name) == ["cupy.cuda.Stream.query_all does not exist"]
    assert planted(add_argument)[-1].startswith("cupy.cuda.alloc takes no argument 'aligned'")
    assert planted(add_position) == [
        "cupy.cuda.device.get_cublas_handle takes 0 arguments, not 1",
    ]


def test_signatures_are_read_from_compiled_functions():
    class Compiled:
        __signature__ = 3  # none that inspect accepts

    Compiled.__doc__ = (
        "copy(self, mem, size_t size, stream=None, tuple order=(1, 2)) -> int\n\nText"
    )
    assert surface.parameters(Compiled) == ["mem", "size", "stream", "order"]
