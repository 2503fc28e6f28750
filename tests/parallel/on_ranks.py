"""Run by mpirun in test_mpi.py: trains in a folder, on all ranks, and writes what each rank saw."""

import json
import os
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from helpers.tiny import tiny  # noqa: E402

import minialex  # noqa: E402
from minialex.models import registry  # noqa: E402
from minialex.models.recipe import Recipe  # noqa: E402
from minialex.parallel.world import open_world  # noqa: E402
from minialex.training.step import TrainStep  # noqa: E402

RUNS = {  # what is trained: dropout, crops, mirrors, colours, and a last batch of four images
    "numpy": {"backend": "numpy"},
    "numba": {"backend": "numba"},
    "towers": {"backend": "numba", "devices": [0, 1], "parallel": "towers"},
    "stopped": {"backend": "numpy", "max_steps": 7},
    "signal": {"backend": "numpy"},
}
ON_THE_STAND_IN = {"cuda": {"backend": "cupy", "max_steps": 4}}
SIGNALLED = 5  # steps after which the last rank is sent SIGTERM


def train(data, out, name, **settings):
    registry._VARIANTS["tiny"] = registry.Variant(
        tiny, Recipe(resize=16, crop=12, batch_size=16), "a test's"
    )
    if name in ON_THE_STAND_IN:
        import cuda_on_cpu

        cuda_on_cpu.install()
    own = {**RUNS, **ON_THE_STAND_IN}[name]
    settings = {"epochs": 7, "max_steps": 20, "report": False, **own, **settings}
    return minialex.train(
        data,
        out=Path(out) / name,
        model="tiny",
        recipe="published",
        micro_batch=4,
        progress=False,
        **settings,
    )


def signal_at(step, number=signal.SIGTERM):
    start = TrainStep.start

    def start_or_stop(self, state, batch, rates):
        if state.step == step - 1:
            os.kill(os.getpid(), number)
        start(self, state, batch, rates)

    TrainStep.start = start_or_stop


def main(data, out, *names):
    world, seen = open_world(), {}
    for name in names:
        if name == "signal" and world.rank == world.size - 1:
            signal_at(SIGNALLED)
        if name.startswith("kill"):  # as kill-RANK-STEP
            rank, step = map(int, name.split("-")[1:])
            if world.rank == rank:
                signal_at(step, signal.SIGKILL)
        if name == "raise" and world.rank == 1:
            TrainStep.start = None  # calling it raises TypeError
        result = train(data, out, name if name in (*RUNS, *ON_THE_STAND_IN) else "numpy")
        seen[name] = [result.interrupted, len(result.history)]
    Path(out, f"seen-{world.rank}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
