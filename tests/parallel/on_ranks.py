"""Run by mpirun in test_mpi.py: trains in a folder, on all ranks, and writes what each rank saw."""

import json
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from helpers.tiny import tiny, tiny_bn  # noqa: E402
from parallel import faults  # noqa: E402

import minialex  # noqa: E402
from minialex.cli.main import main as command  # noqa: E402
from minialex.models import registry  # noqa: E402
from minialex.models.recipe import Recipe  # noqa: E402
from minialex.parallel.world import open_world  # noqa: E402

RUNS = {  # what is trained: dropout, crops, mirrors, colours, and a last batch of four images
    "numpy": {"backend": "numpy"},
    "numba": {"backend": "numba"},
    "towers": {"backend": "numba", "devices": [0, 1], "parallel": "towers"},
    "bn": {"backend": "numba", "model": "tiny-bn"},
    "stopped": {"backend": "numpy", "max_steps": 7},
    "signal": {"backend": "numpy"},
}
GOES_ON = "goes-on"  # with the run "stopped"
ON_THE_STAND_IN = {name: {"backend": "cupy", "max_steps": 4} for name in ("cuda", "nccl")}
SIGNALLED = 5  # steps after which the last rank is sent SIGTERM


def register():
    recipe = Recipe(resize=16, crop=12, batch_size=16)
    for name, build in (("tiny", tiny), ("tiny-bn", tiny_bn)):
        registry._VARIANTS[name] = registry.Variant(build, recipe, "a test's")


def train(data, out, name, **settings):
    register()
    if name in ON_THE_STAND_IN:
        import cuda_on_cpu
        from cuda_on_cpu import fake_nccl

        cuda_on_cpu.install()
        if name == "nccl":
            fake_nccl.install(sys.modules["cupy"])
    own = {**RUNS, **ON_THE_STAND_IN}.get(name, RUNS["numpy"])
    settings = {"model": "tiny", "epochs": 7, "max_steps": 20, **own, **settings}
    return minialex.train(
        data,
        out=Path(out) / name,
        recipe="published",
        report=False,
        micro_batch=4,
        progress=False,
        **settings,
    )


def fault_of(name, world):
    """The fault of this rank in a run: FAULT-RANK-STEP, or random-FAULT-SEED of any rank."""
    what, *how = name.split("-")
    if what == "random":
        rng = np.random.default_rng(int(how[1]))
        victim = int(rng.integers(world.size)) == world.rank
        return faults.at_random(how[0], rng) if victim else nullcontext()
    if what in faults.FAULTS and int(how[0]) == world.rank:
        return faults.at_step(what, int(how[1]))
    return nullcontext()


def main(data, out, *names):
    world, seen = open_world(), {}
    for name in names:
        if name.startswith("full"):  # with the sentence that the command prints
            register()
            given = ["train", "--data", data, "--out", f"{out}/{name}", "--model", "tiny"]
            given += ["--recipe", "published", "--micro-batch", "4", "--epochs", "7"]
            with fault_of(name, world):
                sys.exit(command([*given, "--backend", "numpy"]))
        of_signal = "term-last" if name == "signal" else name
        with fault_of(of_signal.replace("last", f"{world.size - 1}-{SIGNALLED}"), world):
            # many times what a rank that works is late on a busy machine
            waits = {"rank_timeout": 4.0} if "stop-" in name else {}
            if name == GOES_ON:
                result = train(data, out, "stopped", max_steps=20, resume=True)
            else:
                result = train(data, out, name, **waits)
            if name == "nccl":
                assert sys.modules["cupy"].cuda.nccl.moved
        seen[name] = [result.interrupted, len(result.history)]
    if world.launched:
        from mpi4py import MPI, rc

        seen["finalizes"] = rc.finalize is not False
        assert not MPI.Is_finalized()
    Path(out, f"seen-{world.rank}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
