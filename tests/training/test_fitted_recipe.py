"""Defaults that depend on the number of images."""

from dataclasses import replace
from itertools import pairwise
from math import ceil

import pytest
from helpers.tiny import register_tiny
from PIL import Image

import minialex
from minialex import models, schedules
from minialex.data.dataset import Splits, subset
from minialex.data.sources.open import open_data
from minialex.errors import InputError
from minialex.models.recipe import Recipe
from minialex.parallel import DeviceConfig
from minialex.parallel.world import World
from minialex.training import fitted_recipe
from minialex.training.config import TrainConfig
from minialex.training.length import Length
from minialex.training.model_and_recipe import resolve_model
from minialex.training.setup import set_up
from minialex.utils.progress import Progress

SMALL = models.get("alexnet-64", 10).recipe


def updates(recipe, images):
    return recipe.epochs * -(-images // recipe.batch_size)


@pytest.mark.parametrize("images", [10, 100, 450, 2500, 9000, 30_000])
@pytest.mark.parametrize("published", [Recipe(), SMALL])
def test_few_images_get_enough_updates(published, images):
    fitted = fitted_recipe.fit(published, images)
    assert updates(fitted, images) >= min(fitted_recipe.UPDATES, updates(published, images))
    assert updates(fitted, images) >= fitted_recipe.UPDATES
    assert fitted_recipe.SMALLEST_BATCH <= fitted.batch_size <= published.batch_size


def test_batch_size_and_rate_follow_the_number_of_images():
    sizes = [fitted_recipe.fit(SMALL, images).batch_size for images in (100, 450, 900, 1700, 5000)]
    assert sizes == [16, 16, 32, 64, 128]
    fitted = [fitted_recipe.fit(SMALL, images) for images in (100, 900, 5000)]
    assert {recipe.optimizer for recipe in fitted} == {"adam"}
    assert [recipe.lr for recipe in fitted] == pytest.approx([3e-4, 3e-4 * 2**0.5, 3e-4 * 8**0.5])
    fitted = [fitted_recipe.fit(SMALL, n, optimizer="sgd") for n in (100, 900, 5000)]
    rates = [recipe.lr for recipe in fitted]
    assert rates == pytest.approx([SMALL.lr * 0.125**0.5, SMALL.lr / 2, SMALL.lr])


@pytest.mark.parametrize(
    ("given", "optimizer", "dropout"),
    [
        ({}, "adam", False),
        ({"augment": False}, "adam", True),
        ({"epochs": fitted_recipe.OFTEN - 1}, "adam", True),
        ({"lr": 0.01}, "sgd", True),
        ({"momentum": 0.9}, "sgd", True),
        ({"optimizer": "sgd"}, "sgd", True),
        ({"optimizer": "adam", "lr": 0.001}, "adam", False),
        ({"trained": True}, "sgd", True),
        ({"trained": True, "optimizer": "adam"}, "adam", True),
    ],
)
def test_adam_without_dropout_is_for_training_from_scratch_on_few_images(given, optimizer, dropout):
    fitted = fitted_recipe.fit(SMALL, 450, **given)
    assert (fitted.optimizer, fitted.dropout) == (optimizer, dropout)
    sgd = SMALL.lr * 0.125**0.5
    assert fitted.lr == pytest.approx(given.get("lr", 3e-4 if optimizer == "adam" else sgd))


def test_batch_normalisation_allows_a_higher_rate():
    def rate(**given):
        return fitted_recipe.fit(SMALL, 450, optimizer="adam", **given).lr

    assert rate(batch_norm=True) > rate()
    assert rate(batch_norm=True, trained=True) == rate(batch_norm=True)
    assert rate(batch_norm=True, lr=0.01) == 0.01


def test_the_published_recipe_with_adam_has_adams_learning_rate():
    assert fitted_recipe.fit(Recipe(), 1_281_167, optimizer="adam").lr == 3e-4 * 8**0.5


def test_the_published_recipe_is_used_with_enough_images():
    assert fitted_recipe.fit(Recipe(), 1_281_167) == Recipe()
    assert fitted_recipe.fit(Recipe(), 1_281_167, lr=0.5) == replace(Recipe(), lr=0.5)


@pytest.mark.parametrize("length", [{"epochs": 3}, {"minutes": 59}])
def test_a_short_run_on_many_images_is_fitted_too(length):
    """Three epochs of SGD at a constant rate would not reach a schedule's first step."""
    fitted = fitted_recipe.fit(Recipe(), 60_000, **length)
    assert (fitted.optimizer, fitted.schedule, fitted.batch_size) == ("adam", "cosine", 128)
    assert fitted.epochs == length.get("epochs", ceil(3000 / ceil(60_000 / 128)))
    enough = fitted_recipe.fit(Recipe(), 60_000, epochs=22)
    assert enough == replace(Recipe(), epochs=22)


def test_a_schedule_that_nothing_drives_is_not_a_default():
    """`plateau` counts epochs without a better validation error, however few there are in time."""
    assert fitted_recipe.fit(Recipe(), 60_000, validated=False).schedule == "step"
    assert fitted_recipe.fit(Recipe(), 60_000, minutes=90).schedule == "step"
    asked = {"schedule": "plateau", "minutes": 90}
    assert fitted_recipe.fit(Recipe(), 60_000, **asked).schedule == "plateau"


def test_fine_tuning_many_images_is_as_long_as_fine_tuning_few():
    for images in (14_000, 15_000, 60_000):
        fitted = fitted_recipe.fit(Recipe(), images, trained=True)
        assert fitted_recipe.TUNING_UPDATES <= updates(fitted, images) < 1500


def test_a_layers_larger_decay_is_for_the_published_length():
    cifar = models.get("cifar10").recipe
    assert cifar.layer_decays["fc4"] * cifar.weight_decay == pytest.approx(3)
    assert fitted_recipe.fit(cifar, 50_000) == cifar
    few = replace(cifar, layer_decays={"fc4": 750.0, "conv1": 0.5})
    assert fitted_recipe.fit(few, 500).layer_decays == {"fc4": 1.0, "conv1": 0.5}


def test_the_patience_of_the_plateau_schedule_follows_the_epochs():
    """Of few images, five epochs are a few dozen updates."""
    for images in (20, 100, 450, 9000):
        fitted = fitted_recipe.fit(Recipe(), images, schedule="plateau")
        assert fitted.patience / fitted.epochs >= 5 / 90
        assert 5 <= fitted.patience <= 5 + fitted.epochs / 18
    assert fitted_recipe.fit(Recipe(), 1_281_167).patience == 5


def test_explicit_options_win():
    asked = {"epochs": 3, "batch_size": 8, "lr": 0.5, "schedule": "step"}
    fitted = fitted_recipe.fit(SMALL, 450, **asked)
    assert {name: getattr(fitted, name) for name in asked} == asked
    assert fitted.warmup == 0  # not with a user's own learning rate


def test_often_repeated_images_are_augmented_more():
    strong = fitted_recipe.fit(SMALL, 450)
    assert {name: getattr(strong, name) for name in fitted_recipe.STRONG} == fitted_recipe.STRONG
    for weak in (
        fitted_recipe.fit(SMALL, 450, epochs=fitted_recipe.OFTEN - 1),
        fitted_recipe.fit(SMALL, 450, augment=False),
        fitted_recipe.fit(replace(SMALL, random_crops=False), 450),
        fitted_recipe.fit(SMALL, 1_000_000),
    ):
        assert not weak.warps
        assert weak.label_smoothing == 0


def test_labels_are_smoothed_if_the_loss_allows_it():
    def smoothing(**given):
        return resolve_model(TrainConfig(**given), open_data("shapes:48")).recipe.label_smoothing

    assert smoothing() == fitted_recipe.SMOOTHING
    assert smoothing(label_smoothing=0.0) == 0
    assert smoothing(loss="hinge") == 0
    assert smoothing(recipe="published") == 0
    assert fitted_recipe.fit(SMALL, 450, trained=True).label_smoothing == 0
    by_adam = fitted_recipe.fit(SMALL, 450, trained=True, optimizer="adam")
    assert by_adam.label_smoothing == fitted_recipe.SMOOTHING


@pytest.mark.parametrize(
    ("given", "warps"),
    [({}, True), ({"crops": False}, False), ({"crop_scale": 1.0, "aspect": 1.0}, True)],
)
def test_augmentation_options_win(given, warps):
    recipe = resolve_model(TrainConfig(**given), open_data("shapes:48")).recipe
    assert recipe.warps is warps
    for name in ("crop_scale", "aspect"):
        assert getattr(recipe, name) == given.get(
            name, fitted_recipe.STRONG[name] if warps else 1.0
        )


def test_a_warm_up_rises_to_the_schedule():
    recipe = Recipe(schedule="cosine", epochs=100, warmup=5.0, lr=1.0, bias_rate=2.0)
    rates = [schedules.rates(recipe, 0.5 * i, []) for i in range(14)]
    weights = [one.weight for one in rates]
    assert all(0 < a < b for a, b in pairwise(weights[:11]))
    assert weights[0] < 0.03
    assert all(one.bias == pytest.approx(2 * one.weight) for one in rates)
    assert weights[10:] == [
        schedules.get("cosine")(recipe, 0.5 * i, []).weight for i in range(10, 14)
    ]


def test_a_quadratic_warm_up_rises_with_the_square():
    recipe = Recipe(schedule="poly", epochs=10, warmup=5.0, lr=1.0)
    square = replace(recipe, warmup_shape="quadratic")
    for epoch in (0.0, 1.0, 4.5, 5.0, 6.0):
        poly = schedules.get("poly")(recipe, epoch, []).weight
        linear, rate = (schedules.rates(one, epoch, []).weight for one in (recipe, square))
        assert rate / poly == pytest.approx((linear / poly) ** 2)
    assert schedules.rates(square, 4.9, []).weight == pytest.approx(0.51**2 * (5 / 5.1) ** 2)


@pytest.mark.parametrize("given", [{}, {"optimizer": "adam", "schedule": "cosine"}])
@pytest.mark.parametrize("epochs", [1, 3, 8])
def test_a_short_run_by_adam_warms_up_for_a_hundred_updates(given, epochs):
    """Or for half of them. The paper's network loses most of its units in a shorter warm-up."""
    recipe = fitted_recipe.fit(SMALL, 900, epochs=epochs, **given)
    scheduled, half = schedules.get("cosine"), epochs / 2
    for s in range(epochs * 29):
        at = s / 29
        rate, full = (found(recipe, at, []).weight for found in (schedules.rates, scheduled))
        rate = schedules.rates(recipe, at, [], s).weight
        risen = max((s + 2) / 102, (at + 0.02 * half) / (1.02 * half))
        assert rate == pytest.approx(full * min(1, risen))


def test_the_least_warm_up_changes_no_longer_one():
    recipe = fitted_recipe.fit(SMALL, 900)
    assert recipe.warmup * 29 > fitted_recipe.WARMUP_STEPS == recipe.warmup_steps
    for s in range(200):
        assert schedules.rates(recipe, s / 29, [], s) == schedules.rates(recipe, s / 29, [])


def test_a_published_recipe_by_adam_warms_up_too():
    paper = models.get("alexnet").recipe
    assert fitted_recipe.fit(paper, 1_281_167, optimizer="adam").warmup_steps == 100
    assert fitted_recipe.fit(paper, 1_281_167) == paper


@pytest.mark.parametrize(
    "given",
    [
        *({"trained": True}, {"trained": True, "optimizer": "adam"}, {"batch_norm": True}),
        *({"lr": 0.01}, {"optimizer": "sgd"}, {"optimizer": "adam", "lr": 1e-3}),
    ],
)
def test_what_needs_no_least_warm_up(given):
    assert fitted_recipe.fit(SMALL, 900, **given).warmup_steps == 0


def test_batch_normalisation_needs_no_least_warm_up():
    splits = open_data("shapes:48")
    for model, steps in (("alexnet-64", 100), ("alexnet-64-bn", 0)):
        recipe = resolve_model(TrainConfig(model=model), splits).recipe
        assert (recipe.optimizer, recipe.warmup_steps) == ("adam", steps)


def rates_of_a_run(tmp_path, monkeypatch, **more):
    register_tiny(monkeypatch)
    given = {"model": "tiny", "out": tmp_path, "backend": "numpy", "report": False}
    minialex.train("shapes:96", **given, **more)
    lines = (tmp_path / "steps.csv").read_text().splitlines()[1:]
    recipe = minialex.load(tmp_path / "last.safetensors").model.recipe
    return [float(line.split(",")[2]) for line in lines], recipe


def test_a_run_in_epochs_follows_the_least_warm_up(tmp_path, monkeypatch):
    found, recipe = rates_of_a_run(tmp_path, monkeypatch, epochs=2, max_steps=4)
    in_epoch = ceil(87 / recipe.batch_size)  # 9 are held out
    wanted = [schedules.rates(recipe, s / in_epoch, [], s).weight for s in range(4)]
    assert found == pytest.approx(wanted, rel=1e-3)
    assert found[3] < schedules.rates(recipe, 3 / in_epoch, []).weight / 1.3


def test_a_run_in_minutes_follows_the_least_warm_up(tmp_path, monkeypatch):
    share = 0.06  # of the time is over: the warm-up's 5%, but not half of it
    monkeypatch.setattr(Length, "share", lambda self, state: share)
    found, recipe = rates_of_a_run(tmp_path, monkeypatch, minutes=60, max_steps=20)
    full = schedules.get("cosine")(recipe, share * recipe.epochs, []).weight
    least = (share + 0.02 / 2) / (1.02 / 2)
    assert found == pytest.approx([full * max((s + 2) / 102, least) for s in range(20)], rel=1e-3)
    assert found[0] < found[-1]


@pytest.mark.parametrize("recipe", ["fitted", "published"])
def test_a_warm_up_can_be_chosen(recipe):
    splits = open_data("shapes:48")
    given = {"recipe": recipe, "epochs": 20, "warmup": 3.0, "warmup_shape": "quadratic"}
    found = resolve_model(TrainConfig(**given), splits).recipe
    assert (found.warmup, found.warmup_shape) == (3.0, "quadratic")
    none = TrainConfig(**{**given, "warmup": 0})
    with pytest.raises(InputError, match="`warmup_shape` has no effect without a warm-up"):
        resolve_model(none, splits)
    assert resolve_model(none, splits, stored=found).recipe.warmup_shape == "quadratic"
    none = resolve_model(replace(none, warmup_shape=None), splits).recipe
    assert (none.warmup, none.warmup_steps, found.warmup_steps) == (0, 0, 0)
    with pytest.raises(InputError, match="`warmup` is 21 epochs of only 20: choose fewer"):
        resolve_model(TrainConfig(**{**given, "warmup": 21}), splits)
    with pytest.raises(InputError, match="unknown warm-up shape 'quadratc': did you mean"):
        TrainConfig(warmup_shape="quadratc")


@pytest.mark.parametrize(
    ("images", "size", "length", "name"),
    [
        (100, None, {}, "alexnet-64-bn"),
        (100, 32, {}, "alexnet-32-bn"),
        (100, 32, {"batch_norm": False}, "alexnet-32"),
        (60_000, 256, {}, "alexnet"),
        (60_000, 256, {"minutes": 60}, "alexnet"),
        (60_000, 256, {"minutes": 5}, "alexnet-64-bn"),
        (60_000, 256, {"epochs": 22}, "alexnet"),
        (60_000, 256, {"epochs": 3}, "alexnet-64-bn"),
        (60_000, 28, {}, "alexnet-32-bn"),
        (100_000, 64, {}, "alexnet-64-bn"),
        (60_000, None, {}, "alexnet"),
    ],
)
def test_the_default_network_follows_the_images_and_the_length(images, size, length, name):
    class Photographs:
        native_size, stored_size = size, None

        def __len__(self):
            return images

    assert fitted_recipe.default_network(Photographs(), **length) == name
    resize = models.get(name, 10).recipe.resize
    assert size is None or 2 * size >= resize, "training would refuse to upscale so much"


@pytest.mark.parametrize(
    "given",
    [
        {"average_epochs": 2},
        {"micro_batch": 2},
        {"dropout": True},
        {"model_options": {"response_norm": False}},
        {"model_options": {"dropout": False}},
    ],
)
def test_the_default_network_has_what_the_options_are_about(given):
    splits = open_data("shapes:48")
    assert resolve_model(TrainConfig(**given), splits).name == "alexnet-64"


def test_dropout_that_a_network_does_not_have_is_refused():
    splits, given = open_data("shapes:48"), {"model": "alexnet-64-bn", "dropout": True}
    with pytest.raises(InputError, match="alexnet-64-bn has no dropout layers"):
        resolve_model(TrainConfig(**given), splits)
    stored = resolve_model(TrainConfig(model="alexnet-64-bn"), splits).recipe
    resolve_model(TrainConfig(**given), splits, stored)  # earlier versions allowed it


def test_the_default_network_of_one_process_on_one_device():
    splits = open_data("shapes:48")
    assert resolve_model(TrainConfig(), splits, alone=False).name == "alexnet-64"
    one = {"average_epochs": 0, "dropout": False, "model_options": {"towers": 1}}
    assert resolve_model(TrainConfig(**one), splits).name == "alexnet-64-bn"


def test_the_statistics_of_few_images_are_no_default():
    splits = open_data("shapes:48")
    for batch, name in ((1, "alexnet-64"), (7, "alexnet-64"), (8, "alexnet-64-bn")):
        assert resolve_model(TrainConfig(batch_size=batch), splits).name == name


@pytest.mark.parametrize("size", [8, 16, 28])
def test_the_default_takes_images_of_any_size(tmp_path, size):
    for number in range(8):
        path = tmp_path / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (size, size), (30 * number, 0, 0)).save(path)
    splits = open_data(tmp_path)
    assert resolve_model(TrainConfig(), splits).name == "alexnet-32-bn"
    assert resolve_model(TrainConfig(dropout=True), splits).name == "alexnet-32"
    resolve_model(TrainConfig(model="alexnet-32-bn"), splits)  # as later folds name it
    with pytest.raises(InputError, match=f"images {size} pixels wide .*: choose a network"):
        resolve_model(TrainConfig(model="alexnet-64"), splits)
    with pytest.raises(InputError, match=r"crops of 72x72: allow upscaling"):
        resolve_model(TrainConfig(model="alexnet-64", initial="run"), splits)


class Launched(World):
    """The only rank of `mpirun -n 1`."""

    launched = True


@pytest.mark.parametrize(
    ("numbers", "world", "name"),
    [
        (None, World(), "alexnet-64-bn"),
        ((0, 1), World(), "alexnet-64"),
        (None, Launched(), "alexnet-64"),
    ],
)
def test_the_default_network_depends_on_devices_and_ranks(numbers, world, name):
    config, where = TrainConfig(data="shapes:48"), DeviceConfig("numpy", numbers)
    assert set_up(config, where, Progress(False), world=world).model.name == name


def test_the_requested_network_is_trained_with_a_note(monkeypatch, tmp_path, capsys):
    register_tiny(monkeypatch)
    given = {"backend": "numpy", "epochs": 1, "out": tmp_path / "run"}
    minialex.train("shapes:48", model="tiny", **given)
    said = capsys.readouterr().out
    assert "updates   3: 1 epoch in batches of 16" in said


def test_published_uses_the_networks_own_recipe():
    whole = open_data("shapes:48")
    own = resolve_model(TrainConfig(model="alexnet-64", recipe="published"), whole).recipe
    assert own == models.get("alexnet-64", 12).recipe
    fitted = resolve_model(TrainConfig(), Splits(whole.train, whole.val))
    assert fitted.name == "alexnet-64-bn"
    assert fitted.recipe.epochs > own.epochs


def test_unknown_recipes_are_refused():
    with pytest.raises(ValueError, match='"fitted" or "published", not \'paper\''):
        TrainConfig(recipe="paper")


def test_an_empty_data_set_is_refused(tmp_path):
    splits = open_data("shapes:48")
    with pytest.raises(InputError, match="shapes has no images to train on"):
        minialex.train(Splits(subset(splits.train, []), splits.val), out=tmp_path / "run")
