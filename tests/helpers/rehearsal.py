"""For a process of the GPU suite: the stand-in with a tiny network, or a part that fails."""

import faulthandler
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import cuda_on_cpu
import null_cuda

from minialex import models
from minialex.bench import gpu
from minialex.bench.gpu import parts
from minialex.layers import AveragePool, Conv2D, Dense, MaxPool, ReLU
from minialex.models import registry
from minialex.network import Network
from minialex.utils import atomic


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


def variant() -> registry.Variant:
    """`tiny` with the recipe of "cifar10"."""
    recipe = replace(models.get("cifar10").recipe, resize=18, crop=16)
    return registry.Variant(tiny, recipe, "for tests")


SMALL = gpu.Plan(
    model="tiny",
    checked=("bf16",),
    precisions=("bf16",),
    batches=(2,),
    few=2,
    kernel_batch=1,
    warm=0.0,
    rounds=1,
    steps=1,
    repeats=2,
    product=16,
    copy_bytes=512,
    packed=60,
    views=(1,),
    budget=1e9,  # a busy machine would leave parts out
    separate=False,
    train_model="tiny",
    photograph_steps=6,
    drawn="shapes:60",
)


def stand_in(part: str) -> None:
    """Run on the stand-in for CUDA."""
    cuda_on_cpu.install()
    registry._VARIANTS["tiny"] = variant()


def fail(part: str) -> None:
    """Replace all parts: the one called "ops raises" raises, and so on, after a row."""

    def run(plan, found):
        yield {"op": "first", "right": True}
        _fail(part.removeprefix("ops "))

    parts.every = lambda plan: [parts.Part(part, 60, run)]
    sys.stdout.flush()


def fail_in_a_real_part(part: str) -> None:
    """Let a part of the suite fail as $MINIALEX_TEST_FAILS says, instead of what it does."""
    registry._VARIANTS["tiny"] = variant()
    every = parts.every

    def failing(plan):
        run = _fail_at_once
        return [replace(one, run=run) if one.name == part else one for one in every(plan)]

    parts.every = failing


def _fail_at_once(plan, found):
    _fail(os.environ["MINIALEX_TEST_FAILS"])


def _fail(how: str) -> None:
    if told := os.environ.get("MINIALEX_TEST_TELLS"):
        atomic.write_text(Path(told), str(os.getpid()))
    if how == "raises":
        raise ValueError("as rehearsed")
    if how == "has-no-memory":
        raise MemoryError("Out of memory allocating 1 bytes")
    if how == "exits":
        print("the last words", flush=True)
        os._exit(3)
    if how == "is-killed":
        os.kill(os.getpid(), 9)
    if how == "hangs":
        if limit := os.environ.get("MINIALEX_TEST_HANGS"):  # its time ends after its row
            faulthandler.dump_traceback_later(float(limit), exit=True)
        time.sleep(600)
    if how == "stops":  # all threads: it cannot end itself
        os.kill(os.getpid(), signal.SIGSTOP)
    assert how != "is-wrong", "off by 1"


def main() -> None:
    """The suite on the real CuPy and the null CUDA; ends with the number of parts not done."""
    null_cuda.install()
    registry._VARIANTS["tiny"] = variant()
    found = gpu.run_suite(sys.argv[1], SMALL)
    failed = [part for part in found.values() if isinstance(part, dict) and "failed" in part]
    raise SystemExit(len(failed) + len(found["left out"]))


if __name__ == "__main__":
    main()
