"""The speedrun: an attempt leaves a log that can be repeated, and only a true record is one."""

import importlib.util
import json
from pathlib import Path

import pytest

from minialex import models

pytestmark = pytest.mark.usefixtures("slim_networks")

FOLDER = Path(__file__).parents[1] / "examples" / "speedrun"


def load(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_attempt_can_be_repeated_with_the_same_weights(tmp_path, capsys):
    words = ["shapes:64", "--backend", "numpy", "--logs", str(tmp_path)]
    first, other = (
        load("run").main([*words, "--seed", str(seed)], epochs=1, warmup=0) for seed in (3, 4)
    )
    assert first["weights"] != other["weights"]
    assert first["images"] == 16
    stored = json.loads((tmp_path / "seed-3.json").read_text())
    assert stored["recipe"]["epochs"] == 1
    assert stored["seconds"] > 0
    assert load("verify").rerun([stored], 3, "shapes:64") == []
    assert "seed 3 once more" in capsys.readouterr().out
    stored["weights"] = other["weights"]
    assert load("verify").rerun([stored], 3, "shapes:64") == ["seed 3 has other weights"]


def log(seed, accuracy=0.81, **changes):
    machine = {"processor": "P", "cores": "2"}
    made = {"seed": seed, "accuracy": accuracy, "images": 3925, "seconds": 600.0 + seed}
    more = {"program": "abc", "recipe": {}, "minialex": "1", "device": "numba"}
    return {**made, "machine": machine, **more, "weights": "x", **changes}


def written(folder, logs):
    folder.mkdir(exist_ok=True)
    for i, one in enumerate(logs):
        (folder / f"seed-{i:02}.json").write_text(json.dumps(one))
    return str(folder)


@pytest.mark.parametrize(
    ("logs", "fault"),
    [
        ([log(seed) for seed in range(9)], "9 seeds, 10 are needed"),
        ([log(seed) for seed in range(1, 11)], "a seed is missing"),
        ([log(seed, 0.81 - 0.02 * (seed % 2)) for seed in range(10)], "not above 80%"),
        ([log(0, program="other"), *map(log, range(1, 10))], "the same program"),
        ([log(0, recipe={"lr": 1}), *map(log, range(1, 10))], "the same recipe"),
        ([log(0, device="cupy"), *map(log, range(1, 10))], "the same device"),
        ([log(seed, images=100) for seed in range(10)], "not judged on all 3,925"),
    ],
)
def test_what_is_no_record(tmp_path, capsys, logs, fault):
    assert load("verify").main([written(tmp_path / "logs", logs)]) is False
    [said] = [line for line in capsys.readouterr().out.splitlines() if "not a record" in line]
    assert fault in said


def test_a_record_has_a_bound_above_the_target(tmp_path, capsys):
    """By hand: deviation 0.002108, t(0.95, 9) = 1.833; 0.803 - 1.833 x 0.002108 / √10 = 0.8018."""
    accuracies = [0.801 + 0.004 * (seed % 2) for seed in range(10)]
    assert load("verify").lower_bound(accuracies) == pytest.approx(0.80178, abs=1e-5)
    logs = [log(seed, accuracy) for seed, accuracy in enumerate(accuracies)]
    assert load("verify").main([written(tmp_path / "logs", logs)]) is True
    assert "80.30 ± 0.21% accuracy, 604 s (600 to 609 s)" in capsys.readouterr().out


@pytest.mark.parametrize(
    "folder", sorted((FOLDER / "records").iterdir()), ids=lambda path: path.name
)
def test_the_records_stand(folder):
    assert load("verify").main([str(folder)]) is True


def test_its_network_is_the_packages():
    """The speedrun has its own file, whose hash the records hold."""
    assert load("network").alexnet_96(10) == models.get("alexnet-96-bn", 10).network
