"""What a resumed run takes from its folder, what may change, and what it prints."""

import csv
import errno
import json
import os
import re
import shutil
import signal
import sys
import time

import numpy as np
import pytest
from helpers.tiny import photographs, register_tiny, tiny
from safetensors.numpy import load_file

import minialex
from minialex import schedules
from minialex.cli import main
from minialex.data.dataset import Splits
from minialex.data.image_record import ImageRecord, fingerprint
from minialex.data.loading import retry
from minialex.data.sources.class_folders import ImageFolder
from minialex.data.sources.open import open_data
from minialex.errors import InputError, TrainingError
from minialex.models import registry
from minialex.models.recipe import Recipe
from minialex.training import loop, resume, run_folder
from minialex.training.state import State
from minialex.utils import atomic, checkpoint

TINY = {"model": "tiny", "batch_size": 16, "backend": "numpy", "progress": False}


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    register_tiny(monkeypatch)


@pytest.fixture
def run(tmp_path):
    """A run of two epochs of three steps, stopped after its second step."""
    minialex.train("shapes:48", **TINY, epochs=2, max_steps=2, threads=1, out=tmp_path / "run")
    return tmp_path / "run"


def go_on(folder, *words):
    return main.main(["train", "--resume", str(folder), "--quiet", *words])


def history(folder):
    with (folder / "history.csv").open() as file:
        return list(csv.DictReader(file))


def same(a, b):
    ours, theirs = (load_file(folder / "last.safetensors") for folder in (a, b))
    return ours.keys() == theirs.keys() and all(np.array_equal(ours[k], theirs[k]) for k in ours)


def test_the_printed_command_continues_the_run(run):
    assert go_on(run) == 0
    assert [row["step"] for row in history(run)] == ["3", "6"]


def test_states_that_take_long_to_save_are_saved_less_often(tmp_path, monkeypatch):
    def train(name, **limits):
        tiny = {**TINY, "epochs": 3, "threads": 1}
        minialex.train("shapes:48", **{**tiny, **limits}, out=tmp_path / name)
        return tmp_path / name

    saves, save = [], State.save
    monkeypatch.setattr(State, "save", lambda *given: (saves.append(given[0].step), save(*given)))
    usual = train("usual", checkpoint_every=0.0)
    assert saves == [0, 1, 2, 3, 3, 4, 5, 6, 6, 7, 8, 9, 9]  # twice at an epoch's end
    saves.clear()
    monkeypatch.setattr(loop, "SAVING", 1e-9)  # as if a save took a billion times as long
    rare = train("rare")
    assert saves == [0, 3, 9]  # the first time its duration is not known
    assert same(usual, rare)
    assert history(usual)[-1]["val_loss"] == history(rare)[-1]["val_loss"]
    saves.clear()
    stopped = train("stopped", max_steps=7)
    assert saves == [0, 3, 7]
    assert go_on(stopped) == 0
    assert same(usual, stopped)


def test_in_python_no_argument_must_be_repeated(run):
    result = minialex.train(out=run, resume=True, progress=False)
    assert result.classifier.model.name == "tiny"
    assert len(result.history) == 2


def test_fewer_cores_are_no_obstacle(tmp_path, monkeypatch):
    monkeypatch.setattr(resume, "usable_cores", lambda: 1)
    folder = tmp_path / "run"
    folder.mkdir()
    settings = {"data": "shapes:48", "threads": 8, "max_steps": 3, "seed": 4}
    run_folder.write_config(folder, {"settings": settings}, [])
    found = resume.inherited(folder, None, {"seed": 5})
    of_older_versions = {
        "recipe": "published",
        "replace_classifier": False,
        "optimizer": "sgd",
    }
    assert found == {"data": "shapes:48", "threads": 1, "seed": 5, **of_older_versions}


@pytest.fixture
def moved(tmp_path):
    """A run whose photographs have moved, and the same run without a stop."""
    photos = photographs(tmp_path / "photos")
    for name, steps in (("run", 2), ("whole", None)):
        minialex.train(photos, **TINY, epochs=2, max_steps=steps, out=tmp_path / name)
    photos.rename(tmp_path / "moved")
    return tmp_path


def test_the_data_may_have_moved(moved, capsys):
    assert go_on(moved / "run") == 2
    assert "give their folder (--data)" in capsys.readouterr().err
    assert go_on(moved / "run", "--data", str(moved / "moved")) == 0
    assert same(moved / "run", moved / "whole")
    assert go_on(moved / "run") == 0  # the folder is known now


@pytest.mark.parametrize("change", ["rename", "content", "delete"])
def test_other_data_is_refused(moved, change):
    one = moved / "moved" / "cat" / "03.png"
    if change == "rename":
        one.rename(one.with_name("3.png"))
    elif change == "content":
        one.write_bytes((moved / "moved" / "cat" / "04.png").read_bytes() + b"\0")
    else:
        one.unlink()
    with pytest.raises(InputError, match=r"changed since .*`allow_changed_data=True`") as refused:
        minialex.train(moved / "moved", out=moved / "run", resume=True, progress=False)
    assert f"(`initial='{moved / 'run'}'`)" in str(refused.value)


def test_with_changed_images_a_run_never_trains_on_held_out_ones(moved, capsys):
    photos, run = moved / "moved", moved / "run"
    before = ImageRecord(**_listed(run))
    held = [line.split(" ", 2)[2] for line in before.held_out]
    learnt = [line.split(" ", 2)[2] for line in before.trained_on]
    (photos / held[0]).unlink()
    (photos / learnt[0]).unlink()
    (photos / held[1]).rename(photos / "cat" / "renamed.png")
    photographs(moved / "new", each=3, seed=5)
    for path in sorted((moved / "new").glob("*/*")):
        path.rename(photos / path.parent.name / f"new-{path.name}")
    assert go_on(run, "--data", str(photos)) == 2
    refused = capsys.readouterr().err
    assert "4 images held out then" in refused
    assert "(--allow-changed-data), or start a new run" in refused
    assert f"from these weights (--from {run})" in refused
    line = ["train", "--resume", str(run), "--data", str(photos), "--allow-changed-data"]
    assert main.main(line) == 0
    said = capsys.readouterr().out
    assert "new images are used for training, the held-out images stay the same" in said
    assert "36 images to train on then, 41 now" in history(run)[0]["changed"]
    assert "left_out" not in history(run)[0]
    after = ImageRecord(**_listed(run))
    for image in ("new-00.png", "new-01.png", "new-02.png"):
        assert any(one.endswith(f"cat/{image}") for one in after.trained_on)
    assert {*before.held_out} <= {*after.held_out}
    assert {*before.trained_on} <= {*after.trained_on}
    found = minialex.load(run).evaluate()
    assert found.images == 3
    assert go_on(run, "--epochs", "3") == 0  # the folder as it is now is the run's own
    with pytest.raises(InputError, match="needs `resume`"):
        minialex.train(photos, **TINY, allow_changed_data=True)


def test_with_the_option_unchanged_data_gives_the_same_bits(moved):
    line = ["--data", str(moved / "moved"), "--allow-changed-data"]
    assert go_on(moved / "run", *line) == 0
    assert same(moved / "run", moved / "whole")


def _listed(run):
    about = checkpoint.load_metadata(run / "last.safetensors")["data"]["images"]
    return {**about, "held_out": tuple(about["held_out"]), "trained_on": tuple(about["trained_on"])}


def test_rate_and_schedule_may_change_and_the_history_shows_it(run, capsys):
    words = ["--lr", "0.001", "--schedule", "constant"]
    assert main.main(["train", "--resume", str(run), *words]) == 0
    assert "changed after step 2: lr 0.0003 -> 0.001, schedule" in capsys.readouterr().out
    rows = history(run)
    assert [row["learning_rate"] for row in rows] == ["0.001", "0.001"]
    assert rows[0]["changed"].startswith("step 2: lr 0.0003 -> 0.001")
    assert rows[1]["changed"] == ""


def test_after_divergence_the_suggested_lower_rate_works(tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(TrainingError, match=r"--resume \S+run --lr 1e\+07"):
        minialex.train("shapes:48", **TINY, lr=1e8, epochs=2, recipe="published", out=folder)
    assert go_on(folder, "--lr", "0.001") == 0


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("learnt", [False, True])
def test_after_a_saved_divergence_the_suggested_new_run_works(tmp_path, learnt):
    """At the end of an epoch, with weights that are finite and useless at any rate."""
    cifar = {**TINY, "model": "cifar10"}
    given = {**cifar, "recipe": "published", "out": tmp_path / "run"}
    if learnt:
        minialex.train("shapes:48", **given, lr=0.01, epochs=4)
        given = {"out": given["out"], "resume": True, "progress": False}
    with pytest.raises(TrainingError, match="has diverged too: start a new run") as error:
        minialex.train("shapes:48", **given, lr=1.0, epochs=9)
    start = re.search(r"lower learning rate \((--from (\S+) )?--lr 0\.1\)$", str(error.value))
    assert (start[2] is not None) is learnt
    assert ("from the best weights" in str(error.value)) is learnt
    again = {**cifar, "recipe": "published", "out": tmp_path / "again"}
    minialex.train("shapes:48", **again, lr=0.1, epochs=2, initial=start[2])


@pytest.mark.parametrize("name", [*schedules.SCHEDULES])
def test_extending_a_finished_run_says_where_the_rate_rises(name):
    before, now = (Recipe(schedule=name, epochs=epochs) for epochs in (4, 8))
    schedule = schedules.get(name)
    errors = [0.5, 0.4, 0.3, 0.2]
    state = State({}, {}, epoch=4)
    state.history = [
        {"val_top1_error": e, "learning_rate": schedule(before, i + 0.9, errors[:i]).weight}
        for i, e in enumerate(errors)
    ]
    said = resume.rate_jump(before, now, state, 48)
    assert ("stretched" in schedules.extension(name)) == (name not in ("constant", "plateau"))
    if name in ("constant", "plateau", "2012-half"):  # the last has a hundredth from its half on
        assert said is None
    else:
        assert f"up to {schedule(now, 4.0, errors).weight:.2g}" in said


# ------------------------------------------------------------------------------------ interruptions


class Calls:
    """A data set that calls a function before it delivers an image."""

    def __init__(self, whole, does):
        self.whole, self.does = whole, does

    def __getattr__(self, name):
        return getattr(self.whole, name)

    def __len__(self):
        return len(self.whole)

    def image(self, index, size):
        self.does(index)
        return self.whole.image(index, size)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGHUP"])
@pytest.mark.usefixtures("plain_signals")
def test_a_signal_in_validation_loses_nothing(tmp_path, name):
    splits, sent = open_data("shapes:48"), []

    def send(index):
        if not sent:
            sent.append(index)
            os.kill(os.getpid(), getattr(signal, name))

    slow = Splits(splits.train, Calls(splits.val, send))
    settings = {**TINY, "epochs": 2, "workers": 1}
    stopped = minialex.train(slow, **settings, out=tmp_path / "run")
    assert stopped.interrupted == name
    assert stopped.history == []
    trained = checkpoint.load_metadata(tmp_path / "run" / "last.safetensors")["state"]
    start = time.monotonic()
    resumed = minialex.train(splits, **settings, out=tmp_path / "run", resume=True)
    longest = trained["epoch_seconds"] + time.monotonic() - start
    fastest = trained["images"] / trained["epoch_seconds"]
    assert trained["images"] / longest <= resumed.history[0]["images_per_second"] <= fastest + 0.01
    whole = minialex.train(splits, **settings, out=tmp_path / "whole")
    assert same(tmp_path / "run", tmp_path / "whole")
    clocks = {"seconds", "images_per_second", "load_share", "validation_seconds"}
    rows = [[{k: v for k, v in row.items() if k not in clocks} for row in result.history]
            for result in (resumed, whole)]  # fmt: skip
    assert rows[0] == rows[1]


@pytest.mark.parametrize("position", [32, 48])
def test_a_state_without_times_reports_no_earlier_speed(run, position):
    last = run / "last.safetensors"
    tensors, metadata = checkpoint.load(last)
    state = metadata["state"]
    del metadata["format"], state["epoch_seconds"], state["epoch_waited"]
    state["position"] = state["images"] = position  # of 48, which are trained on
    checkpoint.save(last, tensors, metadata)
    assert main.main(["train", "--resume", str(run)]) == 0
    first, second = history(run)
    assert (first["images_per_second"] == "") == (first["load_share"] == "") == (position == 48)
    assert float(second["images_per_second"]) > 0


def test_unreadable_images_are_counted_and_end_a_saved_run(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(retry, "PAUSES", (0.0,))
    splits, bad = open_data("shapes:48"), {3, 5}

    def fail(index):
        if index in bad:
            raise OSError(errno.EIO, "Input/output error")

    data = Splits(Calls(splits.train, fail), splits.val)
    settings = {**TINY, "epochs": 2, "progress": True}
    run = minialex.train(data, **settings, max_steps=3, out=tmp_path / "run")
    assert run.history[0]["left_out"] == 2
    assert history(tmp_path / "run")[0]["left_out"] == "2"
    assert "2 unreadable images left out" in capsys.readouterr().out
    bad.update(range(6, 40))
    with pytest.raises(InputError, match=r"state after step \d is saved, continue with"):
        minialex.train(data, out=tmp_path / "run", resume=True, progress=False)
    bad.clear()
    assert len(minialex.train(data, out=tmp_path / "run", resume=True).history) == 2


# ------------------------------------------------------------------------------------ the folder


def test_a_folder_belongs_to_one_run(tmp_path):
    with run_folder.claimed(tmp_path / "run", "x", resume=False) as folder:
        for resumed in (False, True):
            with (
                pytest.raises(InputError, match="already training in"),
                run_folder.claimed(folder, "x", resume=resumed),
            ):
                pass
    assert not folder.exists()


def test_a_run_killed_before_its_first_state_is_not_in_the_way(tmp_path):
    run_folder.write_config(tmp_path, {"settings": {}}, ["a"])
    gone = tmp_path / f".last.safetensors.{atomic.this_host()}-{2**22 + 1}.part"  # no such process
    gone.touch()
    minialex.train("shapes:48", **TINY, epochs=1, max_steps=1, out=tmp_path)
    assert not gone.exists()
    with pytest.raises(InputError, match="already holds a run"):
        minialex.train("shapes:48", **TINY, epochs=1, out=tmp_path)


def test_every_run_without_a_name_gets_its_own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [run_folder.new_folder(None, "x").name for _ in range(3)] == ["x", "x-2", "x-3"]


def test_without_locks_the_second_of_two_runs_is_refused(tmp_path, monkeypatch):
    def refuse(descriptor, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with run_folder.claimed(tmp_path / "run", "x", resume=False) as folder:
        for resumed in (False, True):
            with (
                pytest.raises(InputError, match=r"already training in .*\.owner names process"),
                run_folder.claimed(folder, "x", resume=resumed),
            ):
                pass
    assert not folder.exists()


@pytest.mark.parametrize(
    "wrong", [{"workers": 0}, {"shallow": "none.safetensors"}, {"data": "unreadable"}]
)
def test_a_run_that_saved_nothing_leaves_nothing(tmp_path, monkeypatch, wrong):
    monkeypatch.chdir(tmp_path)
    photos = photographs(tmp_path / "unreadable", each=6)
    for path in sorted(photos.rglob("*.png"))[1:]:
        if path.name != "00.png":
            path.write_bytes(b"")
    with pytest.raises((InputError, FileNotFoundError)):
        minialex.train(**{"data": "shapes:48", **TINY, "epochs": 1, **wrong}, out="new/run")
    assert [path.name for path in tmp_path.iterdir()] == ["unreadable"]


def test_closed_output_does_not_end_training(tmp_path, monkeypatch, capfd):
    class Gone:
        def write(self, text):
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

        flush = isatty = lambda self: False

        def fileno(self):
            raise OSError

    monkeypatch.setattr(sys, "stdout", Gone())
    result = minialex.train("shapes:48", **{**TINY, "progress": True}, epochs=1, out=tmp_path / "r")
    assert len(result.history) == 1
    assert "cannot print any more" in capfd.readouterr().err


def test_a_copied_run_folder_can_be_resumed(run):
    shutil.copytree(run, run.with_name("copy"))
    assert go_on(run) == go_on(run.with_name("copy")) == 0
    assert same(run, run.with_name("copy"))


def test_a_run_on_several_devices_resumes_on_one(tmp_path):
    out = tmp_path / "run"
    two = {"devices": [0, 1], "parallel": "data"}
    minialex.train("shapes:48", **TINY, **two, epochs=2, max_steps=1, out=out)
    assert go_on(out, "--devices", "0") == 0
    assert len(history(out)) == 2


def test_fewer_epochs_than_done_are_refused(run):
    assert go_on(run) == 0
    before = (run / "config.json").read_bytes()
    with pytest.raises(
        InputError, match="has done 2 epochs, more than the 1 requested: request at least"
    ):
        minialex.train(out=run, resume=True, epochs=1, progress=False)
    assert (run / "config.json").read_bytes() == before


def test_drawings_are_not_confused_with_a_folder_called_shapes(run, tmp_path, monkeypatch):
    config = run / "config.json"
    config.write_text(config.read_text().replace('"shapes:48"', '"shapes"'))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shapes").mkdir()
    monkeypatch.setattr("minialex.data.sources.drawings.DEFAULT_COUNT", 48)
    assert go_on(run) == 0
    with pytest.raises(InputError, match=r"write \./shapes for the folder, shapes:2400 for the"):
        minialex.train("shapes", **TINY, epochs=1, out=tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_state_of_another_version_gives_a_clear_error(run):
    tensors, metadata = checkpoint.load(run / "last.safetensors")
    metadata["state"]["momentum_sum"] = 1
    del metadata["format"]
    checkpoint.save(run / "last.safetensors", tensors, metadata)
    with pytest.raises(InputError, match="a training state with momentum_sum, which this version"):
        minialex.train(out=run, resume=True, progress=False)


def test_validation_uses_the_training_loss(tmp_path):
    """After one epoch with a tiny rate, both are at random guessing: 11 margins, or ln 12."""
    for name, guessing in (("hinge", 11.0), ("softmax", np.log(12))):
        result = minialex.train(
            "shapes:48", **TINY, loss=name, lr=1e-9, epochs=1, out=tmp_path / name
        )
        [row] = result.history
        assert row["train_loss"] == pytest.approx(guessing, rel=0.2)
        assert row["val_loss"] == pytest.approx(guessing, rel=0.2)


def test_a_folder_inside_a_file_gives_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is inside a file: choose another output folder"):
        minialex.train("shapes:48", **TINY, out=tmp_path / "file" / "run")


def test_other_classes_are_named(moved, tmp_path):
    other = photographs(tmp_path / "other")
    first = min(path for path in other.iterdir() if path.is_dir())
    first.rename(other / "zebra")
    with pytest.raises(InputError, match=f"has zebra and lacks {first.name}: use the run's own"):
        minialex.train(other, out=moved / "run", resume=True, progress=False)


COMPOSED, DECOMPOSED = "\u00e9", "e\u0301"  # of which the second sorts before "f"


@pytest.fixture
def accented(tmp_path):
    """A run whose photographs were copied through macOS, and the same run without a stop."""
    photos = photographs(tmp_path / "photos", classes=(COMPOSED, "f"))
    for name, steps in (("run", 2), ("whole", None)):
        minialex.train(photos, **TINY, epochs=2, max_steps=steps, out=tmp_path / name)
    (photos / COMPOSED).rename(photos / DECOMPOSED)
    return tmp_path


def test_a_run_resumes_where_macos_has_renamed_its_classes(accented):
    assert go_on(accented / "run") == 0
    assert same(accented / "run", accented / "whole")
    found = minialex.load(accented / "run").evaluate()
    assert (found.images, found.note) == (4, "")
    (accented / "photos").rename(accented / DECOMPOSED)
    again = minialex.load(accented / "run").evaluate(accented / COMPOSED)
    assert again.images == 4
    assert "36 of 40 images are left out" in again.note


def test_a_run_of_an_older_version_resumes_with_its_order_of_names(tmp_path, monkeypatch):
    """It stored names as on the disk, where the accent sorts before "f"."""
    photos = photographs(tmp_path / "photos", classes=("eqq", "f"))
    for name, steps in (("run", 2), ("whole", None)):
        minialex.train(photos, **TINY, epochs=2, max_steps=steps, out=tmp_path / name)

    def renamed(text):
        return text.replace("eqq", DECOMPOSED)

    with monkeypatch.context() as patch:
        patch.setattr(ImageFolder, "image_name", lambda self, index: renamed(self.files[index]))
        seen = fingerprint(open_data(photos), "NFD")
    (photos / "eqq").rename(photos / DECOMPOSED)
    last, config = tmp_path / "run" / "last.safetensors", tmp_path / "run" / "config.json"
    tensors, described = checkpoint.load(last)
    described = json.loads(renamed(json.dumps(described, ensure_ascii=False)))
    checkpoint.save(last, tensors, described)
    stored = json.loads(renamed(json.dumps(json.loads(config.read_text()), ensure_ascii=False)))
    stored["data"]["fingerprint"] = seen
    config.write_text(json.dumps(stored))
    assert go_on(tmp_path / "run") == 0
    assert same(tmp_path / "run", tmp_path / "whole")
    result = minialex.load(tmp_path / "run").evaluate()
    whole = minialex.load(tmp_path / "whole")
    assert result.images == 4
    assert minialex.load(tmp_path / "run").class_ids == (COMPOSED, "f")
    assert whole.class_ids == ("eqq", "f")


def test_a_history_edited_by_hand_has_gaps(tmp_path):
    (tmp_path / "history.csv").write_text('epoch,val_loss,changed\n1,"0,5",rate\n2,0.25,\n')
    first, second = run_folder.read_history(tmp_path)
    assert first == {"epoch": 1.0, "val_loss": None, "changed": "rate"}
    assert second["val_loss"] == 0.25
    (tmp_path / "config.json").write_text('{"settings": 5}')
    with pytest.raises(InputError, match="is not the configuration of a minialex run"):
        resume.inherited(tmp_path, None, {})


@pytest.mark.parametrize("given", [{}, {"model_options": {"inverted": True}}])
def test_the_input_scale_of_the_first_call_is_not_asked_for_again(tmp_path, given):
    """The weights to start from brought it, and the same call is repeated."""
    from helpers.untrained import untrained

    source = untrained(name="vgg-11-64", inverted=True, input_scale=[0.5] * 3)
    source.save(tmp_path / "source.safetensors")
    call = {"model": "vgg-11-64", "initial": tmp_path / "source.safetensors", **given}
    call |= {"out": tmp_path / "run", "backend": "numpy", "progress": False, "epochs": 1}
    first = minialex.train("shapes:48", **call, max_steps=0)
    assert first.classifier.model.options["input_scale"] == [0.5] * 3
    again = minialex.train("shapes:48", **call, max_steps=0, resume=True)
    assert again.classifier.model.options == first.classifier.model.options


def test_a_resumed_run_is_still_in_its_warm_up(tmp_path, monkeypatch):
    """That of the network's own recipe, with a learning rate given to the first call."""
    variant = registry.Variant(tiny, Recipe(resize=16, crop=12, warmup_steps=8), "a test's")
    monkeypatch.setitem(registry._VARIANTS, "tiny", variant)
    given = {**TINY, "lr": 0.02, "epochs": 4, "recipe": "published", "schedule": "constant"}
    minialex.train("shapes:48", **given, out=tmp_path / "whole")
    minialex.train("shapes:48", **given, out=tmp_path / "run", max_steps=3)
    minialex.train(resume=tmp_path / "run", progress=False)
    assert same(tmp_path / "whole", tmp_path / "run")
    minialex.train("shapes:48", **given, out=tmp_path / "other", max_steps=3)
    minialex.train(resume=tmp_path / "other", progress=False, lr=0.01)  # has its own rate at once
    assert float(history(tmp_path / "other")[1]["learning_rate"]) == 0.01


@pytest.mark.parametrize(("name", "value"), [("fold", "1/2"), ("micro_batch", 3)])
def test_a_setting_that_the_run_did_not_have(tmp_path, monkeypatch, name, value):
    register_tiny(monkeypatch)
    minialex.train("shapes:48", **TINY, epochs=2, max_steps=1, out=tmp_path / "run")
    with pytest.raises(InputError, match=f"was started with no {name}, not"):
        minialex.train(out=tmp_path / "run", resume=True, progress=False, **{name: value})
