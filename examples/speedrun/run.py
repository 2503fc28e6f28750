"""One attempt: train on Imagenette against the clock, and write a log.

    python examples/speedrun/run.py IMAGENETTE --seed 0

The clock starts before the data set is opened and stops when the last weights are on disk. Before
that, two steps on drawings compile the kernels. Then the last weights are evaluated on the
validation images, one centre crop each: training never sees these.
"""

import argparse
import datetime
import hashlib
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import minialex
from minialex.bench.measure import machine
from minialex.data.dataset import Splits, subset
from minialex.data.sources.open import open_data
from minialex.tree import leaves

FOLDER = Path(__file__).parent
PROGRAM = ("run.py", "network.py")
RECIPE: dict[str, Any] = {
    "model": "network.py:alexnet_96",
    "epochs": 22,
    "batch_size": 64,
    "optimizer": "adam",
    "lr": 0.001,
    "schedule": "cosine",
    "warmup": 1,
    "label_smoothing": 0.1,
    "crop_scale": 0.35,
    "aspect": 1.33,
    "brightness": 0.3,
    "contrast": 0.3,
    "saturation": 0.3,
    "erasing": 0.0,
}


def main(arguments: Sequence[str] | None = None, **changes: Any) -> dict[str, Any]:
    """Run one attempt with `changes` to the recipe. Returns the log that it has written."""
    parser = argparse.ArgumentParser(description="Train on Imagenette against the clock.")
    parser.add_argument("data", help="Imagenette, with train/ and val/")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--logs", type=Path, default=Path("logs"), help="folder of the logs")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args(arguments)
    recipe = {**RECIPE, **changes, "backend": options.backend, "threads": options.threads}
    if recipe["model"].startswith("network.py:"):
        recipe["model"] = str(FOLDER / recipe["model"])

    with tempfile.TemporaryDirectory() as folder:
        compiling = {**recipe, "epochs": 1, "warmup": 0, "max_steps": 2, "progress": False}
        minialex.train("shapes:256", out=f"{folder}/compiled", report=False, **compiling)

        started = time.perf_counter()
        train = open_data(options.data).train
        unjudged = Splits(train, subset(train, []))  # no validation during the race
        out = f"{folder}/run"
        run = minialex.train(
            unjudged, out=out, seed=options.seed, report=False, val_fraction=0, **recipe
        )
        seconds = time.perf_counter() - started

        last = run.run_dir / "last.safetensors"
        trained = minialex.load(last, options.backend, threads=options.threads)
        judged = trained.evaluate(options.data)
        weights = [trained.devices.to_numpy(value) for _, _, value in leaves(trained.params)]
        device = run.classifier.devices.backends[0]
        log = {
            "seed": options.seed,
            "accuracy": judged.accuracy,
            "images": judged.images,
            "seconds": round(seconds, 1),
            "date": datetime.date.today().isoformat(),
            "recipe": {**RECIPE, **changes},
            "program": _digest(b"".join((FOLDER / name).read_bytes() for name in PROGRAM)),
            "weights": _digest(b"".join(weight.tobytes() for weight in weights)),
            "device": {"backend": device.name, "threads": device.threads},
            "machine": machine(device, []),
            "minialex": minialex.__version__,
            "train_loss": [round(row["train_loss"], 4) for row in run.history],
        }
    options.logs.mkdir(parents=True, exist_ok=True)
    path = options.logs / f"seed-{options.seed}.json"
    path.write_text(json.dumps(log, indent=1) + "\n", encoding="utf-8")
    print(f"{judged.accuracy:.2%} in {seconds:.0f} s: {path}")
    return log


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


if __name__ == "__main__":
    main()
