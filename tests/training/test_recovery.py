"""A run that stops learning is detected, reported, and restarted from good weights."""

import itertools
from math import log
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.tiny import photographs, register_tiny
from safetensors.numpy import load_file

import minialex
from minialex import backends, models
from minialex.data.sources.open import open_data
from minialex.errors import InputError, TrainingError
from minialex.training import announce, loop, recovery, trainer
from minialex.training.config import TrainConfig
from minialex.training.model_and_recipe import resolve_model
from minialex.training.recovery import Trend
from minialex.training.trainer import ReadingFailed, Trainer
from minialex.utils.checkpoint import load_metadata

CHANCE = log(10)
TINY = {"model": "tiny", "batch_size": 4, "backend": "numpy", "lr": 0.002, "progress": False}


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    register_tiny(monkeypatch)


def trend(*losses):
    found = Trend()
    for loss, steps in losses:
        for _ in range(steps):
            found = found.add(loss)
    return found


@pytest.mark.parametrize(
    ("losses", "collapsed"),
    [
        ([(CHANCE, 400)], False),  # has not learnt yet: nothing is lost
        ([(CHANCE, 200), (0.7 * CHANCE, 200)], False),
        ([(0.7 * CHANCE, 200), (CHANCE, 300)], True),
        ([(0.7 * CHANCE, 200), (0.95 * CHANCE, 300)], False),  # harder now, but not nothing
        ([(0.1 * CHANCE, 5), (CHANCE, 300)], False),  # a few lucky steps at the start
    ],
)
def test_a_loss_that_returned_to_chance(losses, collapsed):
    assert trend(*losses).collapsed(CHANCE) is collapsed


@pytest.mark.parametrize("chance", [0.0, -0.3])
def test_a_loss_of_ones_own_that_starts_at_zero_or_below_is_not_compared(chance):
    found = trend((chance, 5000))
    verdicts = found.exploded(chance), found.collapsed(chance), found.stuck(chance, 10)
    assert verdicts == (False, False, False)
    assert not found.suspicious(chance)
    assert not trend().exploded(CHANCE)


def test_a_loss_far_above_chance():
    assert trend((2.5 * CHANCE, 200)).exploded(CHANCE)
    assert not trend((2.5 * CHANCE, 50)).exploded(CHANCE)  # initial weights may be that bad
    assert trend((200 * CHANCE, 3)).exploded(CHANCE)
    assert not trend((2.5 * CHANCE, 50), (CHANCE, 150)).exploded(CHANCE)


def test_a_loss_that_never_left_chance():
    nothing = trend((CHANCE, 2000))
    assert nothing.stuck(CHANCE, 4000)
    assert not nothing.stuck(CHANCE, 80_000)  # in a long run this is only the beginning
    assert not trend((CHANCE, 400)).stuck(CHANCE, 1000)
    assert not trend((CHANCE, 1000), (0.9 * CHANCE, 1000)).stuck(CHANCE, 4000)


def test_a_dead_layer_is_named():
    b, network = backends.get("numpy"), models.get("alexnet-64", 10).network
    params = network.init(b, 0)
    x = np.random.default_rng(0).normal(0, 50, (3, 64, 64, 3)).astype(np.float32)
    assert recovery.dead(b, network, params, x) is None
    params["conv3"]["bias"] = np.full_like(params["conv3"]["bias"], -1e6)
    assert recovery.dead(b, network, params, x) == "all units of relu3 are 0 for every image"


@pytest.mark.parametrize(
    ("model", "options", "layer", "values"),
    [
        ("cifar10", {"activation": "tanh"}, "conv1", {"bias": 1e4}),  # all units are saturated
        ("alexnet-64-bn", {}, "bn5", {"weight": 0.0, "bias": 1.0}),
    ],
)
def test_scores_that_no_longer_differ(model, options, layer, values):
    network, b = models.get(model, 3, **options).network, backends.get("numpy")
    params = network.init(b, 0)
    x = np.random.default_rng(0).normal(0, 50, (3, *network.input_shape)).astype(np.float32)
    assert recovery.dead(b, network, params, x) is None
    for name, value in values.items():
        params[layer][name] = np.full_like(params[layer][name], value)
    assert recovery.dead(b, network, params, x) == "the scores are the same for every image"
    half = {k: {n: v.astype(np.float16) for n, v in p.items()} for k, p in params.items()}
    assert recovery.dead(b, network, half, x.astype(np.float16)) is None  # may be rounding


def ill(monkeypatch, step, spoil):
    """Spoil the parameters at a step of a run that has not been restarted."""
    rates = Trainer.rates

    def spoiling(self, state, position):
        if state.step == step and state.attempts == 0:
            spoil(state.params)
        return rates(self, state, position)

    monkeypatch.setattr(Trainer, "rates", spoiling)


def kill(params):
    for layer in params.values():
        layer["bias"][...] = -1e6


def blow_up(params):
    next(iter(params.values()))["weight"][...] = np.nan


@pytest.mark.parametrize(
    ("spoil", "step", "words"), [(kill, 60, "all units of"), (blow_up, 5, "is not finite")]
)
def test_a_run_recovers_good_weights_with_a_lower_rate(
    monkeypatch, tmp_path, capsys, spoil, step, words
):
    ill(monkeypatch, step, spoil)
    monkeypatch.setattr(recovery, "HORIZON", 5)
    given = {**TINY, "progress": True, "epochs": 7}
    result = minialex.train("shapes:48", **given, out=tmp_path / "run")
    said = capsys.readouterr().out
    assert words in said
    assert "learning rate times 0.3" in said
    assert len(result.history) == 7
    assert any("back to" in row.get("changed", "") for row in result.history)
    assert result.history[-1]["learning_rate"] < 0.002 * 0.3 * 0.2  # the end of the cosine schedule
    for array in load_file(tmp_path / "run" / "last.safetensors").values():
        assert np.isfinite(array).all()


def test_a_dead_network_is_found_although_it_knows_which_class_is_frequent(
    monkeypatch, tmp_path, capsys
):
    """Its loss is that of the frequencies, far below random guessing."""

    def spoil(params):
        *others, last = params
        for name in others:
            params[name]["bias"][...] = -1e6
        params[last]["bias"][...] = np.log([10 / 11, 1 / 11])

    ill(monkeypatch, 0, spoil)
    for name, count in {"cat": 40, "dog": 4}.items():
        photographs(tmp_path / "data", count, [name])
    minialex.train(tmp_path / "data", **{**TINY, "progress": True}, epochs=2, out=tmp_path / "run")
    assert "are 0 for every image: back to" in capsys.readouterr().out


def test_the_loss_of_guessing_by_the_frequencies_of_the_classes():
    labels = np.array([0, 0, 0, 1])
    half = -(0.75 * log(0.75) + 0.25 * log(0.25))
    assert recovery.guessing_frequencies(labels, 3, 0.0) == pytest.approx(half)
    assert recovery.guessing_frequencies(np.arange(10), 10, 0.1) == pytest.approx(CHANCE)
    smooth = -sum(p * log(p) for p in (0.4, 0.4, 0.2))
    assert recovery.guessing_frequencies(np.array([0, 1]), 3, 0.6) == pytest.approx(smooth)


@pytest.mark.parametrize("fine_tuned", [False, True])
def test_a_stopped_and_resumed_run_recovers_the_same_bits(monkeypatch, tmp_path, fine_tuned):
    """Before there are best weights, it restarts from the initial ones, random or transferred."""
    given, whole, parts = {**TINY, "epochs": 2}, tmp_path / "whole", tmp_path / "parts"
    if fine_tuned:
        source = minialex.train("shapes:48", **TINY, epochs=1, seed=3, out=tmp_path / "source")
        given["initial"] = source.run_dir
    ill(monkeypatch, 5, blow_up)
    minialex.train("shapes:48", **given, out=whole)
    minialex.train("shapes:48", **given, out=parts, max_steps=3)
    minialex.train(out=parts, resume=True, progress=False)
    ours, theirs = (load_file(folder / "last.safetensors") for folder in (whole, parts))
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
    # the optimiser counts its steps from there
    assert load_metadata(parts / "last.safetensors")["state"]["since"] == 6


def test_after_several_recoveries_it_ends_with_advice(tmp_path):
    with pytest.raises(TrainingError, match=r"--resume \S+ --lr") as caught:
        minialex.train("shapes:48", **{**TINY, "lr": 1e20}, epochs=2, out=tmp_path / "run")
    assert f"{1e20 * recovery.FACTOR**recovery.ATTEMPTS / 10:.3g}" in str(caught.value)


def test_a_network_that_never_starts_ends_its_run(monkeypatch, tmp_path):
    monkeypatch.setattr(recovery, "PATIENT", 60)
    monkeypatch.setattr(Trend, "suspicious", lambda self, chance: False)
    words = r"still at random guessing .* lower learning rates did not help, check the images"
    with pytest.raises(TrainingError, match=words):
        minialex.train("shapes:48", **{**TINY, "lr": 1e-12}, epochs=30, out=tmp_path / "run")


@pytest.mark.parametrize(
    ("optimizer", "options"), [("sgd", "--lr 0.002"), ("adam", "--optimizer adam --lr 0.002")]
)
def test_the_advice_keeps_the_optimiser(optimizer, options):
    """`--lr` alone chooses SGD, for which Adam's rates are far too low."""
    assert f"({options})" in recovery.advice("tiny", optimizer, 0.01, 0)
    given = TrainConfig(data="shapes:48", **parsed(options))
    splits = open_data("shapes:48")
    assert resolve_model(given, splits).recipe.optimizer == optimizer
    assert "--lr" not in recovery.advice("tiny", optimizer, 0.01, 3)  # they were tried
    assert "alexnet-2012" in recovery.advice("alexnet", optimizer, 0.01, 0)


def parsed(options):
    """`train` settings of command-line options with one value each."""
    words = options.replace("--", "").split()
    found = dict(zip(words[::2], words[1::2], strict=True))
    return {**found, "lr": float(found["lr"])}


def test_a_run_that_ends_without_having_learnt_says_so(monkeypatch, tmp_path):
    ill(monkeypatch, 3, kill)
    with pytest.raises(TrainingError, match=r"are 0 for every image, and the run is over: try"):
        minialex.train("shapes:48", **TINY, epochs=1, out=tmp_path / "run")


def test_a_run_out_of_time_does_not_end_with_its_initial_weights(monkeypatch, tmp_path):
    """Back to those, there would be no time for a single step."""
    ill(monkeypatch, 3, kill)
    ticks = itertools.count()
    clock = SimpleNamespace(monotonic=lambda: 0.01 * next(ticks))
    monkeypatch.setattr(trainer, "time", clock)
    given = {**TINY, "minutes": 0.002, "out": tmp_path / "run"}
    with pytest.raises(TrainingError, match=r"are 0 for every image, and the run is over: try"):
        minialex.train("shapes:960", **given)


def test_a_read_error_while_looking_for_dead_units_saves_the_state():
    class Broken:
        def batches(self, order, count):
            raise InputError("a drive has failed")
            yield

    one = SimpleNamespace(views=lambda crops: [(0, 0, False)])
    parts = {"splits": SimpleNamespace(train=[0] * 4), "image_loaders": (Broken(),)}
    half = SimpleNamespace(step=SimpleNamespace(seed=0), **parts)
    with pytest.raises(ReadingFailed, match="a drive has failed"):
        Trainer._few_images(half, None, SimpleNamespace(preprocessing=one))


def test_a_run_with_its_first_validation_images_has_best_weights():
    states = [
        SimpleNamespace(history=[{"val_loss": x} for x in xs]) for xs in ([None, 1], [None, 1, 2])
    ]
    assert [loop._is_best(state) for state in states] == [True, False]


def test_a_short_run_that_learnt_nothing_says_so(tmp_path, capsys):
    given = {**TINY, "lr": 1e-12, "progress": True, "schedule": "constant"}
    minialex.train("shapes:48", **given, epochs=1, out=tmp_path / "run")
    said = "nothing learnt yet: after 12 steps the loss is no lower than that of random guessing"
    assert f"{said} (2.485); train longer" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("losses", "what", "said"),
    [
        (
            [2.3, None],
            None,
            "after 1 step the loss is no lower than that of random guessing",
        ),
        ([2.4, float("nan")], "try a lower rate", "(2.303); try a lower rate"),
        ([2.3, 2.2], None, None),
        ([float("inf")], None, None),
        ([], None, None),
    ],
)
def test_the_sentence_for_a_run_that_learnt_nothing(losses, what, said):
    found = announce.nothing_learnt(losses, CHANCE, 1, what)
    assert found is None if said is None else said in found
    assert announce.nothing_learnt(losses, float("nan"), 1, what) is None


def test_the_published_recipe_only_reports(monkeypatch, tmp_path):
    ill(monkeypatch, 5, blow_up)
    with pytest.raises(TrainingError, match="is not finite"):
        minialex.train("shapes:48", **TINY, recipe="published", epochs=1, out=tmp_path / "run")


def test_weights_that_break_in_the_last_update_end_the_run(monkeypatch, tmp_path):
    """In the last update, where no loss shows it and nothing is validated."""
    end = Trainer.end_epoch

    def ending(self, state, *more):
        end(self, state, *more)
        if state.epoch == 2:
            blow_up(state.params)

    monkeypatch.setattr(Trainer, "end_epoch", ending)
    folder = photographs(tmp_path / "images", each=6)
    given = {**TINY, "epochs": 2, "val_fraction": 0, "out": tmp_path / "run"}
    with pytest.raises(TrainingError, match=r"conv1.weight is not finite after step"):
        minialex.train(folder, **given)
