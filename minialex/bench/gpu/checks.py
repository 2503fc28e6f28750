"""Checks of whole programs on a CUDA device: tests, overfitting, compute-sanitizer, training.

All but the training need a clone of the repository, with its tests and examples.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import minialex
from minialex.backends.cuda import device
from minialex.backends.cuda.machine_code import PRECOMPILED
from minialex.bench.gpu.plan import Plan
from minialex.training.run_folder import read_steps

PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
SANITIZERS = ("memcheck", "racecheck", "initcheck")
_ROOT = Path(minialex.__file__).parents[1]
_TAIL = 2000  # characters of a failed program's output
_TESTS = 150.0  # seconds after which no more test is started
_LAST_TEST = 30.0  # seconds for the last test, and for pytest's summary


def environment() -> dict[str, Any]:
    """The device, its driver, and the versions of the libraries."""
    runtime = device.library().cuda.runtime
    return {
        **device.describe(0),
        "devices": device.count(),
        "cupy": device.library().__version__,
        "cuda_runtime": runtime.runtimeGetVersion(),
        "cuda_driver": runtime.driverGetVersion(),
        "python": platform.python_version(),
        "numpy": version("numpy"),
    }


def tests(plan: Plan) -> dict[str, str]:
    """pytest's summary of three minutes of tests on the GPU; RuntimeError if one fails.

    `plan.budget` is this part's time. A file that cannot be imported here stops only its own tests.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "gpu and not slow"]
    command.append("--continue-on-collection-errors")
    seconds = max(0.0, min(_TESTS, plan.budget - _LAST_TEST))
    limits = {"HYPOTHESIS_PROFILE": "short", "MINIALEX_TEST_GPU_SECONDS": f"{seconds:.0f}"}
    done = _run(command, "tests", limits)
    if done.returncode:
        raise RuntimeError(done.stdout[-_TAIL:])
    return {"summary": done.stdout.strip().splitlines()[-1]}


def overfit(precision: str, towers: bool = False) -> dict[str, str]:
    """The last line of examples/overfit_small.py; RuntimeError if it does not reach its loss.

    With `towers` the network is split over two devices, both of them device 0.
    """
    devices = ["--devices", "0,0"] if towers else []
    example = ["examples/overfit_small.py", "--backend", "cupy", "--precision", precision, *devices]
    done = _run([sys.executable, *example], example[0])
    if done.returncode:
        raise RuntimeError((done.stdout + done.stderr)[-_TAIL:])
    return {"summary": [line for line in done.stdout.splitlines() if line.startswith("step")][-1]}


def sanitizer(tool: str) -> dict[str, str]:
    """The error summary of compute-sanitizer on all ops and a step of a small network, in bf16."""
    program = shutil.which("compute-sanitizer")
    if program is None:
        return {"summary": "compute-sanitizer is not installed"}
    command = [program, "--tool", tool, "--error-exitcode", "9", sys.executable]
    command += ["-m", "minialex.bench.gpu.observed", "ops", "bf16", "alexnet-32", "4"]
    done = _run(command, "minialex")
    if done.returncode:
        raise RuntimeError(done.stdout[-_TAIL:])
    errors = re.findall(r"ERROR SUMMARY: .*|RACECHECK SUMMARY: .*", done.stdout)
    return {"summary": errors[-1] if errors else done.stdout[-300:]}


def photographs(precision: str, plan: Plan) -> dict[str, Any]:
    """A few steps of training on the photographs of `plan.data`, on drawings without it.

    RuntimeError unless the mean loss of the last third is below that of the first.
    """
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        minialex.train(
            plan.data or plan.drawn,
            model=plan.train_model,
            recipe="published",
            backend="cupy",
            precision=precision,
            epochs=plan.photograph_steps,
            max_steps=plan.photograph_steps,
            out=run,
            progress=False,
        )
        losses = [loss for _, loss in read_steps(run)]
    third = max(1, len(losses) // 3)
    first, last = (float(np.mean(part)) for part in (losses[:third], losses[-third:]))
    if not last < first:
        raise RuntimeError(f"the loss does not fall: {first:.3f}, then {last:.3f}, of {losses}")
    return {"steps": len(losses), "first_third": first, "last_third": last}


def training(precision: str, plan: Plan) -> list[dict[str, Any]]:
    """The history of a training run on the photographs of `plan.data`."""
    assert plan.data is not None
    with tempfile.TemporaryDirectory() as folder:
        result = minialex.train(
            plan.data,
            recipe="published",
            model=plan.train_model,
            backend="cupy",
            precision=precision,
            epochs=plan.train_epochs,
            out=Path(folder) / "run",
            progress=False,
        )
    columns = ("epoch", "train_loss", "val_top1_error", "images_per_second")
    return [{name: row[name] for name in columns} for row in result.history]


def _run(
    command: list[str], needed: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command in the repository's root; FileNotFoundError if `needed` is not there."""
    if not (_ROOT / needed).exists():
        raise FileNotFoundError(f"{needed} is missing: run this in a clone of the repository")
    # the root, so that the package need not be installed
    path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    given = {"PYTHONPATH": path, **(environment or {})}
    if kernels := os.environ.get(PRECOMPILED):  # relative to this process's folder
        given[PRECOMPILED] = os.path.abspath(kernels)
    return subprocess.run(
        command,
        cwd=_ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, **given},
    )
