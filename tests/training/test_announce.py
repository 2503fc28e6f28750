"""The lines a run prints: the table at the start, the epochs, and the end."""

import re
from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.tiny import register_tiny

import minialex
from minialex import models
from minialex.data.dataset import Splits, Subset
from minialex.data.sources.open import open_data
from minialex.inference.evaluation import Evaluation
from minialex.models.recipe import Recipe
from minialex.training import announce, fitted_recipe, trainer
from minialex.training.length import Length
from minialex.training.state import State
from minialex.utils import progress
from minialex.utils.progress import Progress, duration

TINY = {"model": "tiny", "backend": "numpy", "batch_size": 16}


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    register_tiny(monkeypatch)


def test_the_output_of_a_run_fits_a_terminal(tmp_path, capsys):
    minialex.train("shapes:48", **TINY, epochs=2, out=tmp_path / "r")
    lines = capsys.readouterr().out.replace(str(tmp_path), "").splitlines()
    words = [line.split()[0] for line in lines[:7]]
    assert words == ["images", "classes", "network", "updates", "lr", "device", "folder"]
    epochs = [line for line in lines if line.startswith("epoch")]
    assert len(epochs) == 2
    assert re.search(r"accuracy \d+\.\d%  top-5 \d+%", epochs[0])
    assert max(map(len, epochs)) <= 80


def test_what_is_added_to_the_papers_augmentation_is_said():
    assert announce.augmentation(Recipe()) == {}
    given = fitted_recipe.fit(Recipe(), 450)
    assert announce.augmentation(given) == {
        "augment": "crops of 35% or more, aspect 1.33, brightness 0.3, contrast 0.3",
        "labels": "smoothed by 0.1",
    }
    more = replace(Recipe(), rotation=10.0, vertical_flip=True, mixup=0.2, class_weights=True)
    assert announce.augmentation(more) == {
        "augment": "rotation 10, mixup 0.2, vertical flips",
        "labels": "weighted by class",
    }


def test_few_images_and_unbalanced_classes_are_mentioned():
    whole = open_data("shapes:48").train
    uneven = np.concatenate([np.flatnonzero(whole.labels == 0), [1, 2, 3]])
    of_four = [np.flatnonzero(whole.labels == label)[: 1 + 3 * (label == 0)] for label in range(12)]
    splits = Splits(Subset(whole, np.concatenate(of_four), ""), Subset(whole, uneven, ""))
    [few] = [line for line in announce.remarks(splits) if "validation" in line]
    assert re.match(r"7 validation images are few: .* 70% means \d+% to \d+%", few)
    single = Splits(whole, Subset(whole, uneven[:1], ""))
    assert announce.remarks(single)[-1].startswith("1 validation image is few: ")
    counts = np.bincount(splits.train.labels)
    assert (counts.max(), counts.min()) == (4, 1)
    alone = Splits(whole, Subset(whole, np.zeros(0, int), ""))
    assert announce.remarks(alone, 48) == []
    [large] = announce.remarks(alone, 100_000)
    assert large.startswith("a batch of 100,000 is more than the 48 training images")


@pytest.mark.parametrize(("loss", "said"), [(2.4849, "2.485"), (1.02e33, "1e+33")])
def test_losses_that_explode_fit_a_line_too(loss, said):
    row = {"epoch": 100, "train_loss": loss, "learning_rate": 0.00012}
    evaluation = Evaluation(50, 0.1, 0.1, loss, 1, "", {}, classes=12)
    line = announce.epoch(row, 100, evaluation, 0, 0)
    assert f"loss {said}  val loss {said}  accuracy 90.0%" in line
    assert len(line) <= 80


def test_a_small_network_has_some_parameters():
    assert [announce._number(n) for n in (2053, 61_000_000)] == ["2,053", "61.0 million"]


@pytest.mark.parametrize(
    ("warmup", "said"), [(0.15, "0.15 epochs"), (1.0, "1 epoch"), (150.0, "150 epochs")]
)
def test_the_warm_up_in_epochs(warmup, said):
    recipe = models.get("tiny", 2).recipe
    assert announce.rate(replace(recipe, warmup=warmup), 100, None).endswith(f"of {said}")


@pytest.mark.parametrize(
    ("warmup", "minutes", "said"),
    [
        (2.0, None, "warm-up of 100 updates"),
        (9.0, None, "warm-up of 9 epochs"),
        (9.0, 5, "warm-up of 10% of the time, at least 100 updates"),
        (0.0, 5, "warm-up of 100 updates"),
    ],
)
def test_the_least_warm_up(warmup, minutes, said):
    recipe = replace(models.get("tiny", 2).recipe, epochs=90, warmup=warmup, warmup_steps=100)
    assert announce.rate(recipe, 13 * recipe.batch_size, minutes).endswith(said)
    short = announce.rate(replace(recipe, epochs=3, warmup=0.1), 13 * recipe.batch_size, None)
    assert short.endswith("warm-up of 20 updates")  # half of them


@pytest.mark.parametrize(
    ("losses", "stop", "stalled"),
    [
        ([3, 2, 1], 2, False),
        ([1, 2, 3], 2, True),
        ([1, 2, 0.5], 2, False),
        ([2, 1, 1, 1], 2, True),
        ([1, float("nan"), float("nan")], 2, True),
        ([1, 2, 3], None, False),
        ([None, None, None], 2, False),
        ([None, 2, 1], 2, False),  # validation images were added
        ([None, 1, 2, 3], 2, True),
        ([], 1, False),
    ],
)
def test_the_message_for_a_run_that_stops_improving(losses, stop, stalled):
    state = State({}, {}, history=[{"val_loss": loss} for loss in losses])
    assert Length(1, 1, stop_early=stop).stalled(state) is stalled


@pytest.mark.parametrize(("seconds", "complete"), [(53, False), (55, True), (61, True)])
def test_minutes_include_the_last_validation(seconds, complete):
    """The last validation took 6 s, so there is time for another epoch until 54 s."""
    row = {"val_loss": 1.0, "validation_seconds": 6.0}
    state = State({}, {}, epoch=1, seconds=seconds, history=[row])
    assert Length(10, 3, minutes=1.0).complete(state) is complete
    assert not Length(10, 3, minutes=1.0).complete(replace(state, position=4))


def test_an_early_stop_is_announced_and_final(tmp_path, capsys):
    given = {**TINY, "lr": 1e-9, "schedule": "constant", "stop_early": 1}
    result = minialex.train("shapes:48", **given, epochs=9, out=tmp_path / "r")
    assert "stopped early: no lower validation loss for 1 epoch\n" in capsys.readouterr().out
    assert len(result.history) < 9
    again = minialex.train(out=tmp_path / "r", resume=True, progress=False)
    assert len(again.history) == len(result.history)


def test_minutes_instead_of_epochs(tmp_path, monkeypatch, capsys):
    ticks = count()
    clock = SimpleNamespace(monotonic=lambda: 0.01 * next(ticks))  # whatever the machine is doing
    monkeypatch.setattr(trainer, "time", clock)
    given = {**TINY, "minutes": 0.02, "out": tmp_path / "r"}
    result = minialex.train("shapes:48", **given, max_steps=10_000)
    assert "stopped after" not in capsys.readouterr().out  # it had its time
    minialex.train(out=tmp_path / "r", resume=True)
    assert "has finished its 0.02 minutes: to train longer" in capsys.readouterr().out
    rates = [row["learning_rate"] for row in result.history]
    assert rates[-1] < 0.2 * max(rates)  # the cosine schedule has ended
    with pytest.raises(ValueError, match="both set the length"):
        minialex.train("shapes:48", **TINY, minutes=1, epochs=1)


def test_a_run_in_minutes_has_as_many_epochs_as_there_is_time(tmp_path, monkeypatch):
    """Also more than its schedule is counted in, when it is stopped, resumed and extended."""
    monkeypatch.setattr(fitted_recipe, "UPDATES", 3)  # one epoch
    ticks = count()
    clock = SimpleNamespace(monotonic=lambda: 0.01 * next(ticks))
    monkeypatch.setattr(trainer, "time", clock)
    given = {**TINY, "minutes": 0.02, "out": tmp_path / "r", "progress": False}
    given.pop("epochs", None)
    stopped = minialex.train("shapes:48", **given, max_steps=11)
    assert len(stopped.history) > 2
    whole = minialex.train(out=tmp_path / "r", resume=True, progress=False)
    longer = minialex.train(out=tmp_path / "r", resume=True, minutes=0.03, progress=False)
    assert len(longer.history) > len(whole.history) > len(stopped.history)


def test_progress_lines_without_a_terminal(monkeypatch, capsys):
    clock = iter(range(0, 10_000, 50))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    show = Progress()
    show.epoch(1, 2, 100, 0)
    for done in range(20):
        show.step(5, 1.0, done / 40)
    show.close()
    lines = capsys.readouterr().out.splitlines()
    assert any(re.fullmatch(r"[\d.]+% done, loss 1\.000, \d+ min left in all", x) for x in lines)
    assert len(lines) < 20


@pytest.mark.parametrize(("images", "said"), [(40, r"\d+% done"), (None, r"\d+ images")])
def test_lines_instead_of_a_bar_without_a_terminal(monkeypatch, capsys, images, said):
    """The outputs of frozen layers may take as long as the training."""
    clock = iter(range(0, 10_000, 50))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    for show in (Progress(), Progress(enabled=False)):
        with show.bar("frozen layers", images) as bar:
            for _ in range(8):
                bar.update(5)
    lines = capsys.readouterr().out.splitlines()
    assert 1 <= len(lines) <= 4
    assert all(re.fullmatch(f"frozen layers: {said}", line) for line in lines)


@pytest.mark.parametrize(
    ("seconds", "text"), [(12.3, "12 s"), (200, "3 min"), (9000, "2.5 h"), (89, "89 s")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text
