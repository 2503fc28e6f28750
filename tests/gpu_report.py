"""Everything there is to prove and measure on a CUDA device, in one command:

    python tests/gpu_report.py --out report [--data FOLDER] [--quick]

Runs `pytest -m gpu`, drives the paper's network to learn eight images by heart in each precision,
trains on FOLDER if one is given, runs compute-sanitizer where it is installed, times a training
step with PyTorch beside it where that is installed, and writes report/gpu.md and report/gpu.json.
"""

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from minialex.backends.cuda import device
from minialex.errors import InputError

ROOT = Path(__file__).parents[1]
PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
BATCHES = (128, 512)
ROUNDS, STEPS = 5, 5  # medians over rounds of so many steps, the programs taking turns


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="a folder for the report")
    parser.add_argument("--data", type=Path, help="photographs in class folders to train on")
    parser.add_argument("--quick", action="store_true", help="tests and timings only")
    options = parser.parse_args()
    try:
        device.check(0)
    except InputError as error:
        parser.error(str(error))
    options.out.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {"where": where(), "date": date.today().isoformat()}

    def keep(name: str, measure: Callable[[], Any]) -> None:
        start = time.monotonic()
        try:
            found[name] = measure()
        except Exception as error:  # the other measurements are worth having all the same
            found[name] = {"failed": f"{type(error).__name__}: {error}"[:2000]}
        print(f"{name}: {time.monotonic() - start:.0f} s  {found[name]}", flush=True)
        (options.out / "gpu.json").write_text(json.dumps(found, indent=2))
        (options.out / "gpu.md").write_text(report(found))

    keep("tests", lambda: tests("-m", "gpu"))
    keep("timings", timings)
    if not options.quick:
        keep("overfit", overfit)
        keep("sanitizer", sanitizer)
        if options.data:
            keep("training", lambda: training(options.data, options.out))
    return 1 if any("failed" in part for part in found.values() if isinstance(part, dict)) else 0


def where() -> dict[str, str]:
    import cupy

    about = device.describe(0)
    runtime = cupy.cuda.runtime
    return {
        "device": f"{device.count()} x {about['name']}, {about['memory'] / 2**30:.0f} GiB",
        "compute capability": about["capability"],
        "CuPy": cupy.__version__,
        "CUDA runtime": str(runtime.runtimeGetVersion()),
        "CUDA driver": str(runtime.driverGetVersion()),
        "Python": platform.python_version(),
        "NumPy": np.__version__,
    }


def tests(*arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *arguments], cwd=ROOT, capture_output=True, text=True
    )
    result: dict[str, Any] = {"summary": done.stdout.strip().splitlines()[-1]}
    if done.returncode:
        result["failed"] = done.stdout[-4000:]
    return result


# ------------------------------------------------------------------------------ timings


def ours(batch: int, precision: str, devices=0) -> Callable[[], None]:
    """Runs STEPS training steps on a resident batch, and waits for the last."""
    from minialex import backends, losses, models, parallel
    from minialex.layers import Mode
    from minialex.optim import SGD, Rates

    model = models.get("alexnet")
    network = model.network
    b = parallel.open_devices(network, "cupy", devices, precision=precision)
    params = b.place(network.init(backends.get("numpy"), 0))
    sgd, rates = SGD(model.recipe), Rates(0.01, 0.01, 0.0)
    velocities, resident = sgd.start(b, params), {}
    images = np.random.default_rng(0).normal(size=(batch, 227, 227, 3)).astype("float32")
    labels = np.arange(batch) % 1000

    def inputs(b, first, end):
        if b not in resident:
            resident[b] = b.asarray(images[first:end], b.compute_dtype("float32"))
        return resident[b]

    def run() -> None:
        for step in range(STEPS):
            loss, grads = b.gradients(
                params,
                inputs,
                labels,
                losses.SoftmaxCrossEntropy(),
                Mode(training=True, step=step),
            )
            sgd.update(b, params, velocities, grads, rates)
        loss()
        b.synchronize()

    return run


def theirs(batch: int, precision: str) -> Callable[[], None] | None:
    """The same network in eager PyTorch, channels last, cuDNN's own choice of algorithms."""
    try:
        import torch

        from minialex.bench.peer import network_in_torch as translated
    except ImportError:
        return None
    from minialex import models

    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision != "fp32"
    network = translated(models.get("alexnet").network).cuda().to(memory_format=torch.channels_last)
    sgd = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9, weight_decay=5e-4)
    x = torch.randn(batch, 3, 227, 227, device="cuda").to(memory_format=torch.channels_last)
    labels = torch.arange(batch, device="cuda") % 1000
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)

    def run() -> None:
        for _ in range(STEPS):
            sgd.zero_grad(set_to_none=True)
            with torch.autocast("cuda", kind, enabled=kind is not None):
                loss = torch.nn.functional.cross_entropy(network(x).float(), labels)
            loss.backward()
            sgd.step()
        torch.cuda.synchronize()

    return run


def timings() -> list[dict[str, Any]]:
    """Images a second, medians, the programs taking turns."""
    rows = []
    for batch in BATCHES:
        for precision in PRECISIONS:
            runs = {"minialex": ours(batch, precision)}
            if batch == BATCHES[0]:
                runs["minialex, two towers on one device"] = ours(batch, precision, [0, 0])
            peer = theirs(batch, precision)
            if peer is not None:
                runs["PyTorch, eager"] = peer
            seconds: dict[str, list[float]] = {name: [] for name in runs}
            for run in runs.values():
                run()
            for _ in range(ROUNDS):
                for name, run in runs.items():
                    start = time.perf_counter()
                    run()
                    seconds[name].append((time.perf_counter() - start) / STEPS)
            for name, values in seconds.items():
                median = statistics.median(values)
                rows.append(
                    {
                        "program": name,
                        "batch": batch,
                        "precision": precision,
                        "images_per_second": round(batch / median, 1),
                        "milliseconds": round(1e3 * median, 3),
                        "spread": round((max(values) - min(values)) / median, 3),
                    }
                )
                print(rows[-1], flush=True)
            runs.clear()
            rows[-1]["pool_bytes"] = _pool_bytes()
    return rows


def _pool_bytes() -> int:
    import cupy

    reserved = cupy.get_default_memory_pool().total_bytes()
    cupy.get_default_memory_pool().free_all_blocks()
    return int(reserved)


# ------------------------------------------------------------------------------ learning


def overfit() -> dict[str, str]:
    """The last line of examples/overfit_small.py in each precision, and over two towers."""
    last = {}
    for name, more in (
        *((p, ("--precision", p)) for p in PRECISIONS),
        ("two towers", ("--devices", "0,0")),
    ):
        command = [sys.executable, "examples/overfit_small.py", "--backend", "cupy", *more]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        lines = [line for line in done.stdout.splitlines() if line.startswith("step")]
        last[name] = lines[-1] if lines and done.returncode == 0 else done.stderr[-300:]
    return last


def training(data: Path, out: Path) -> dict[str, list]:
    """alexnet-64 on real photographs, in full and in half precision."""
    import minialex

    found = {}
    for precision in ("fp32", "bf16"):
        result = minialex.train(
            data,
            model="alexnet-64",
            backend="cupy",
            precision=precision,
            epochs=10,
            out=out / f"run-{precision}",
        )
        found[precision] = result.history
    return found


def sanitizer() -> dict[str, str]:
    """compute-sanitizer over the tests of all ops."""
    program = shutil.which("compute-sanitizer")
    if program is None:
        return {"summary": "compute-sanitizer is not installed here"}
    found = {}
    for tool in ("memcheck", "racecheck", "initcheck"):
        command = [program, "--tool", tool, "--error-exitcode", "9", sys.executable, "-m", "pytest"]
        done = subprocess.run(
            [*command, "-q", "-m", "gpu", "--ignore=tests/backends/cuda", "tests/backends"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            env={**os.environ, "HYPOTHESIS_PROFILE": "short"},
        )
        errors = re.findall(r"ERROR SUMMARY: .*|RACECHECK SUMMARY: .*", done.stdout)
        found[tool] = errors[-1] if errors else done.stdout[-300:]
    return found


# ------------------------------------------------------------------------------ the page


def report(found: dict[str, Any]) -> str:
    """gpu.md."""
    lines = ["# On a CUDA device", "", f"Measured on {found['date']}:", ""]
    lines += [f"- {name}: {value}" for name, value in found["where"].items()]
    for name in ("tests", "overfit", "sanitizer"):
        if name in found:
            lines += ["", f"## {name}", ""]
            lines += [f"- {key}: `{value}`" for key, value in found[name].items()]
    if isinstance(found.get("timings"), list):
        lines += ["", "## A training step of the paper's network, on a resident batch", ""]
        lines += ["| program | batch | precision | images/s | ms a step | spread |"]
        lines += ["|---|---|---|---|---|---|"]
        for row in found["timings"]:
            lines.append(
                f"| {row['program']} | {row['batch']} | {row['precision']} | "
                f"{row['images_per_second']:,.0f} | {row['milliseconds']:.2f} | "
                f"{row['spread']:.0%} |"
            )
    if isinstance(found.get("training"), dict) and "failed" not in found["training"]:
        lines += ["", "## Training alexnet-64 on photographs", ""]
        lines += [
            "| precision | epoch | train loss | top-1 error | images/s |",
            "|---|---|---|---|---|",
        ]
        for precision, history in found["training"].items():
            for row in history:
                lines.append(
                    f"| {precision} | {row['epoch']} | {row['train_loss']:.3f} | "
                    f"{row['val_top1_error']:.2%} | {row['images_per_second']:,.0f} |"
                )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    sys.exit(main())
