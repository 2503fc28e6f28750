"""Training end to end on built-in images: it learns, resumes to the same bits, reports errors."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from helpers.standard import Strict
from helpers.stripes import Stripes
from safetensors.numpy import load_file

import minialex
from minialex import backends
from minialex.data.dataset import Splits
from minialex.data.sources.open import open_data
from minialex.errors import InputError, TrainingError
from minialex.parallel import DeviceConfig

# Dropout, normalisation, crops, mirrors and colour shifts: whatever could break a resumed run.
SMALL = {"model": "alexnet-64", "batch_size": 16, "seed": 3, "lr": 0.02, "progress": False}
pytestmark = pytest.mark.usefixtures("slim_networks")
ROOT = Path(__file__).parents[2]

CLOCKS = ("seconds", "images_per_second", "load_share", "validation_seconds")


def train(data="shapes:48", **settings):
    return minialex.train(data, **{**SMALL, "epochs": 2, **settings})


def outcome(folder):
    """Everything that must be bit-identical: parameters, velocities, history without times."""
    tensors = {name: a.tobytes() for name, a in load_file(folder / "last.safetensors").items()}
    with (folder / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    return tensors, [{k: v for k, v in row.items() if k not in CLOCKS} for row in rows]


def test_resume_may_be_the_folder_as_on_the_command_line(tmp_path):
    stopped = train(out=tmp_path / "run", epochs=1, max_steps=1)
    assert len(stopped.history) == 0
    done = minialex.train("shapes:48", resume=tmp_path / "run", progress=False, max_steps=100)
    assert done.run_dir == tmp_path / "run"
    assert len(done.history) == 1
    with pytest.raises(InputError, match="leave out `out`"):
        minialex.train(resume=str(tmp_path / "run"), out=tmp_path / "other")


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, slim_networks):
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    return train(out=folder)


def test_a_run_folder_has_the_documented_files(unbroken):
    names = {path.name for path in unbroken.run_dir.iterdir()}
    assert names == {
        ".lock",
        "best.safetensors",
        "classes.txt",
        "config.json",
        "history.csv",
        "last.safetensors",
        "steps.csv",
    }
    assert len((unbroken.run_dir / "classes.txt").read_text().splitlines()) == 12
    assert json.loads((unbroken.run_dir / "config.json").read_text())["settings"]["seed"] == 3
    assert [row["epoch"] for row in unbroken.history] == [1, 2]
    wanted = {"step", "seconds", "images_per_second", "learning_rate", "train_loss", "val_loss"}
    assert wanted | {"val_top1_error", "val_top5_error"} <= set(unbroken.history[0])


@pytest.mark.parametrize(
    "steps", [1, 3, 4]
)  # within the first epoch, at its end, within the second
def test_a_resumed_run_ends_with_the_same_bits(tmp_path, unbroken, steps):
    first = train(out=tmp_path / "run", max_steps=steps)
    assert len(first.history) == (0 if steps < 3 else 1)
    train(out=tmp_path / "run", resume=True)
    assert outcome(tmp_path / "run") == outcome(unbroken.run_dir)


def test_a_finished_run_is_left_alone(tmp_path, capsys):
    train(out=tmp_path / "run", max_steps=4)
    before = outcome(tmp_path / "run")
    for most in (4, 1):
        train(out=tmp_path / "run", resume=True, max_steps=most, progress=True)
        assert outcome(tmp_path / "run") == before
    assert (
        "stopped after 4 steps; continue with: minialex train --resume" in capsys.readouterr().out
    )


def test_the_seed_changes_the_run(tmp_path, unbroken):
    other = train(out=tmp_path / "run", seed=4)
    assert outcome(other.run_dir) != outcome(unbroken.run_dir)


SCRIPT = """
import sys, minialex
from helpers.slim import slim_variant
from minialex.models import registry
registry._VARIANTS["alexnet-64"] = slim_variant(registry._VARIANTS["alexnet-64"])
out, epochs, resume = sys.argv[1], int(sys.argv[2]), len(sys.argv) > 3
settings = dict(model="alexnet-64", batch_size=16, seed=3, lr=0.02, checkpoint_every=0.0)
r = minialex.train("shapes:48", out=out, epochs=epochs, resume=resume, **settings)
print("ended", r.interrupted)
"""


def run_script(folder, epochs, *resume):
    command = [sys.executable, "-c", SCRIPT, str(folder), str(epochs), *resume]
    paths = os.pathsep.join(("tests", os.environ.get("PYTHONPATH", "")))
    environment = {**os.environ, "PYTHONPATH": paths}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT)


def wait_for(path, process, seconds=600):  # where Numba compiles first, a minute
    for _ in range(int(seconds / 0.02)):
        if path.exists() or process.poll() is not None:
            return
        time.sleep(0.02)
    raise AssertionError(f"{path} did not appear")


def test_a_run_killed_at_any_moment_ends_with_the_same_bits(tmp_path, unbroken):
    folder, draw = tmp_path / "run", random.Random(5)
    process = run_script(folder, 2)
    for _ in range(3):
        wait_for(folder / "last.safetensors", process)
        time.sleep(draw.uniform(0.0, 0.4))
        process.kill()
        process.wait()
        process = run_script(folder, 2, "resume")
    output, _ = process.communicate(timeout=600)
    assert "ended None" in output
    assert outcome(folder) == outcome(unbroken.run_dir)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_continue(tmp_path, number):
    folder = tmp_path / "run"
    process = run_script(folder, 500)
    wait_for(folder / "last.safetensors", process)
    time.sleep(1.0)
    os.kill(process.pid, number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert f"minialex train --resume {folder}" in output
    assert f"ended {number.name}" in output


@pytest.mark.parametrize("settings", [{}, {"dropout": False}, {"model": "cifar10", "lr": 1e-3}])
def test_the_best_weights_evaluate_as_they_did_in_training(tmp_path, settings):
    result = train(**settings, out=tmp_path / "run")
    best = min(result.history, key=lambda row: row["val_loss"])
    evaluation = minialex.load(tmp_path / "run").evaluate(batch_size=16)
    assert evaluation.loss == pytest.approx(best["val_loss"], rel=1e-6)
    assert evaluation.top1_error == best["val_top1_error"]


@pytest.mark.parametrize("write_number", [4, 5, 6, 7])
def test_a_kill_before_any_file_of_an_epoch_loses_nothing(
    tmp_path, unbroken, monkeypatch, write_number
):
    """After config.json, classes.txt and the first state: history, best, state of an epoch."""
    from minialex.utils import atomic, checkpoint

    write, written = atomic.write_blocks, []

    def dies(path, blocks):
        written.append(path.name)
        if len(written) == write_number:
            raise KeyboardInterrupt
        write(path, blocks)

    for module in (atomic, checkpoint):
        monkeypatch.setattr(module, "write_blocks", dies)
    with pytest.raises(KeyboardInterrupt):
        train(out=tmp_path / "run")
    monkeypatch.undo()
    train(out=tmp_path / "run", resume=True)
    assert outcome(tmp_path / "run") == outcome(unbroken.run_dir)
    for name in ("best.safetensors", "last.safetensors"):
        ours, theirs = (load_file(run / name) for run in (tmp_path / "run", unbroken.run_dir))
        assert all(np.array_equal(ours[key], theirs[key]) for key in theirs)


class Warm(Stripes):
    """Red, yellow and green stripes against cyan, blue and violet ones."""

    class_ids = class_names = ("warm", "cold")

    @property
    def labels(self):
        return super().labels // 6


def test_it_learns(tmp_path):
    settings = {"epochs": 5, "schedule": "constant", "lr": 0.0015, "batch_size": 8}
    result = train(Splits(Warm(96), Warm(48, part=1)), **settings, out=tmp_path / "run")
    last = result.history[-1]
    # Of two classes: chance is 0.5, and the loss at the start 0.69. Ten seeds: 0 in all of them,
    # and 0.02 to 0.30 (0.28 to 0.30 in nine).
    assert last["val_top1_error"] < 0.2
    assert last["train_loss"] < 0.5


def test_a_third_party_backend_trains(tmp_path, monkeypatch):
    monkeypatch.setitem(backends._registered, "strict", Strict)
    settings = {"epochs": 1, "max_steps": 2, "batch_size": 4, "dtype": "float64"}
    ours = train(**settings, out=tmp_path / "numpy", backend="numpy")
    theirs = train(**settings, out=tmp_path / "strict", backend="strict")
    for layer, of_layer in ours.classifier.params.items():
        other = theirs.classifier.devices.to_numpy(theirs.classifier.params[layer]["weight"])
        np.testing.assert_allclose(other, of_layer["weight"], rtol=1e-7, atol=1e-12)


def test_hinge_loss_and_float64(tmp_path):
    result = train(loss="hinge", dtype="float64", lr=1e-5, epochs=1, out=tmp_path / "run")
    assert result.history[0]["train_loss"] == pytest.approx(11.0, rel=0.1)  # (K - 1) Δ
    assert result.classifier.params["fc8"]["weight"].dtype == np.float64


def test_a_non_finite_loss_names_layer_and_step_and_saves_the_batch(tmp_path):
    with pytest.raises(TrainingError, match=r"step \d+: .*(conv|fc)\d") as caught:
        train(lr=1e6, epochs=3, recipe="published", out=tmp_path / "run")
    [batch] = (tmp_path / "run").glob("nonfinite-step-*.npz")
    assert str(batch) in str(caught.value)
    assert np.load(batch)["images"].shape[1:] == (72, 72, 3)
    for array in load_file(tmp_path / "run" / "last.safetensors").values():
        assert np.isfinite(array).all()


class Unreadable:
    """Another data set in which some images cannot be read."""

    def __init__(self, whole, bad):
        self.whole, self.bad = whole, bad

    def __getattr__(self, name):
        return getattr(self.whole, name)

    def __len__(self):
        return len(self.whole)

    def image(self, index, size):
        if index in self.bad:
            raise InputError(f"image {index} is truncated")
        return self.whole.image(index, size)


def test_unreadable_images_are_left_out_counted_and_named(tmp_path, capsys):
    whole = open_data("shapes:48")
    splits = Splits(Unreadable(whole.train, {3, 17}), Unreadable(whole.val, {2}))
    result = minialex.train(splits, **{**SMALL, "progress": True}, epochs=1, out=tmp_path / "run")
    assert len(result.skipped) == 3
    output = capsys.readouterr().out
    assert "skipped 3 unreadable images:" in output
    assert "image 17 is truncated" in output


def test_layer_statistics_are_shown_before_the_first_step(tmp_path, capsys):
    train("shapes:48", epochs=1, out=tmp_path / "run", progress=True, verbose=True)
    output = capsys.readouterr().out
    assert "ok" in output
    assert all(f"\n{name} " in output for name in ("norm1", "conv5", "fc8"))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"model": "alexnet64"}, "did you mean 'alexnet-64'"),
        ({"backend": "nump"}, "did you mean 'numpy'"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"schedule": "stepp"}, "did you mean 'step'"),
        ({"loss": "hing"}, "did you mean 'hinge'"),
        ({"dtype": "float16"}, "not 'float16'"),
        ({"devices": []}, "no device was given"),
        ({"devices": [0, 1], "parallel": "tower"}, "did you mean 'towers'"),
        ({"precision": "fp16"}, "does not compute in"),
        ({"data": "shapes:x"}, "shapes:N"),
        ({"progress": "no"}, "progress is 'no': it must be True or False"),
        ({"resume": 3}, "resume is 3: it must be True or False"),
        ({"initial": "a\0b"}, "initial is .*: it must be a path"),
    ],
)
def test_a_wrong_argument_is_refused(tmp_path, settings, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        train(**settings, out=tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_finished_folder_is_not_overwritten(unbroken):
    with pytest.raises(InputError, match="already holds a run"):
        train(out=unbroken.run_dir)


@pytest.mark.parametrize("name", ["best.safetensors", "last.safetensors"])
def test_weights_without_a_run_are_not_replaced(name, unbroken, tmp_path):
    """As in the folder of an import, or of a run whose config.json was removed."""
    names = (name, "classes.txt")
    kept = {one: (unbroken.run_dir / one).read_bytes() for one in names}
    for one, content in kept.items():
        (tmp_path / one).write_bytes(content)
    with pytest.raises(InputError, match="already has weights: choose another output folder"):
        train("shapes:48", epochs=1, out=tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == kept


def test_resume_refuses_other_settings_and_other_data(tmp_path):
    train("shapes:48", epochs=1, out=tmp_path / "run")
    with pytest.raises(InputError, match=r"seed=3, not 4"):
        train("shapes:48", epochs=1, out=tmp_path / "run", resume=True, seed=4)
    with pytest.raises(InputError, match=r"data='shapes:48', not 'shapes:96'"):
        train("shapes:96", epochs=1, out=tmp_path / "run", resume=True)
    with pytest.raises(InputError, match="resume needs the run's folder"):
        train("shapes:48", resume=True)
    with pytest.raises(FileNotFoundError, match="no run folder"):
        train("shapes:48", out=tmp_path / "none", resume=True)


def test_small_images_are_not_enlarged_silently(tmp_path):
    splits = open_data("shapes:48")

    class Tiny(Unreadable):
        native_size = 32

    tiny = Splits(Tiny(splits.train, ()), Tiny(splits.val, ()))
    with pytest.raises(InputError, match="choose a network for smaller images, or allow upscaling"):
        train(tiny, epochs=1, out=tmp_path / "run")
    train(tiny, epochs=1, out=tmp_path / "run", allow_upscaling=True)


def test_a_resumed_run_opens_its_devices_once(tmp_path, monkeypatch):
    settings = {"data": "shapes:48", "model": "cifar10", "epochs": 1, "batch_size": 16}
    train = partial(
        minialex.train, **settings, backend="numpy", devices=[0, 1], parallel="data", progress=False
    )
    train(out=tmp_path / "run", max_steps=1)
    opened, open_devices = [], DeviceConfig.open
    monkeypatch.setattr(
        DeviceConfig,
        "open",
        lambda self, *given, **how: opened.append(1) or open_devices(self, *given, **how),
    )
    train(out=tmp_path / "run", resume=True)
    assert len(opened) == 1
