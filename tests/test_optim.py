"""Updates by hand, users' optimisers, and every schedule at the epochs where it changes."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.tiny import tiny

from minialex import backends, losses, models, optim, parallel, schedules
from minialex.errors import InputError
from minialex.models.recipe import Recipe
from minialex.optim import SGD, Rates
from minialex.schedules import plateau_drops
from minialex.training.feed import Tensors
from minialex.training.step import TrainStep
from minialex.tree import leaves, map_tree

PAPER = Recipe()
ORIGINAL = models.get("alexnet-2012").recipe


def test_two_steps_by_hand():
    b = backends.get("numpy")
    params = {"fc8": {"weight": np.array([[1.0]]), "bias": np.array([2.0])}}
    grads = {"fc8": {"weight": np.array([[3.0]]), "bias": np.array([4.0])}}
    optimiser = SGD(replace(PAPER, bias_decay=0.0))
    velocities = optimiser.start(b, params)
    w, v, c, u = 1.0, 0.0, 2.0, 0.0
    for rate in (0.01, 0.001):  # the old velocity keeps its scale after the drop
        optimiser.update(b, params, velocities, grads, Rates(rate, 2 * rate, 0.0))
        v = 0.9 * v - 0.0005 * rate * w - rate * 3.0
        u = 0.9 * u - 2 * rate * 4.0
        w, c = w + v, c + u
    assert params["fc8"]["weight"][0, 0] == pytest.approx(w, rel=1e-12)
    assert params["fc8"]["bias"][0] == pytest.approx(c, rel=1e-12)


@pytest.mark.parametrize("name", ["lars", "lars-without-decay"])
@pytest.mark.parametrize("scheme", [None, "towers"])
def test_lars_by_hand(name, scheme):
    """Also where a parameter is divided over devices: the norms are the whole parameter's."""
    devices = parallel.open_devices(tiny(3), "numpy", scheme and [0, 1], scheme)
    rng = np.random.default_rng(0)
    shapes = tiny(3).parameter_shapes()
    draw = {layer: {n: rng.normal(size=s) for n, s in own.items()} for layer, own in shapes.items()}
    drawn = {
        layer: {n: rng.normal(size=s) for n, s in own.items()} for layer, own in shapes.items()
    }
    draw["fc8"]["bias"][:] = 0  # keeps the plain rate
    params, grads = (devices.to_devices(map_tree(np.copy, tree)) for tree in (draw, drawn))
    optimiser = optim.get(name, replace(PAPER, weight_decay=0.5))
    assert not optimiser.compilable
    slots = optimiser.start(devices, params)
    optimiser.update(devices, params, slots, grads, Rates(10.0, 20.0, 0.0))
    for layer, parameter, w in leaves(draw):
        g, rate = drawn[layer][parameter], 20.0 if parameter == "bias" else 10.0
        size, steep = np.linalg.norm(w), np.linalg.norm(g)
        if size > 0:
            rate *= 0.001 * size / (steep + (0.5 * size if name == "lars" else 0.0))
        found = devices.to_numpy(params[layer][parameter])
        np.testing.assert_allclose(found, w - rate * (g + 0.5 * w), rtol=1e-9, atol=1e-12)


def test_rates_and_decay_by_layer():
    b = backends.get("numpy")
    recipe = replace(PAPER, momentum=0.0, layer_rates={"a": 0.5}, layer_decays={"b": 0.0})
    params = {name: {"weight": np.ones(1)} for name in "ab"}
    grads = {name: {"weight": np.ones(1)} for name in "ab"}
    optimiser = SGD(recipe)
    rates = Rates(0.1, 0.1, 0.0)
    optimiser.update(b, params, optimiser.start(b, params), grads, rates)
    assert params["a"]["weight"][0] == pytest.approx(1 - 0.05 - 0.0005 * 0.05)
    assert params["b"]["weight"][0] == pytest.approx(1 - 0.1)


@pytest.mark.parametrize("optimiser", [SGD(replace(PAPER, layer_rates={"b": 0.0})), None])
def test_a_frozen_layer_does_not_coast(optimiser):
    """At a rate of 0 the authors' code makes no update; velocity and weight keep their bits."""

    def coasting(b, weight, gradient, slots, rate, decay, step):
        return weight + slots["velocity"], slots

    coasting.slots = ("velocity",)
    optimiser = optimiser or optim.PLUGINS.make(coasting, "net.py:coasting")(
        replace(PAPER, layer_rates={"b": 0.0})
    )
    devices = parallel.open_devices(tiny(3), "numpy")
    params = {name: {"weight": np.ones(3), "bias": np.ones(1)} for name in "abc"}
    slots = {"velocity": map_tree(lambda w: 0.5 * w, params)}
    grads = map_tree(np.ones_like, params)
    rates = Rates(0.1, 0.1, 0.0, {"c": 0.0, "c.bias": 0.0})
    optimiser.update(devices, params, slots, grads, rates)
    for name in "bc":
        for parameter in ("weight", "bias"):
            assert (params[name][parameter] == 1).all()
            assert (slots["velocity"][name][parameter] == 0.5).all()
    assert all((w != 1).all() for w in params["a"].values())


def test_the_decay_is_the_gradient_of_the_penalty():
    b = backends.get("numpy")
    params = {"fc8": {"weight": np.array([1.0, -2.0]), "bias": np.array([3.0])}}
    assert SGD(PAPER).penalty(b, params) == pytest.approx(0.00025 * (1 + 4 + 9))
    assert SGD(ORIGINAL).penalty(b, params) == pytest.approx(0.00025 * (1 + 4))


class Counting:
    """Sums up gradients and their squares, and takes the sum of both and of the arguments."""

    slots = ("sum", "square")

    def __call__(self, b, weight, gradient, slots, rate, decay, step):
        after = {"sum": slots["sum"] + gradient, "square": slots["square"] + gradient**2}
        return weight - rate * (after["sum"] + after["square"]) - decay - 10 * step, after


class Constant(Tensors):
    """A feed that says it can be compiled."""

    compilable = True


def own(function):
    return optim.PLUGINS.make(function, "net.py:own")(replace(PAPER, weight_decay=0.5))


def test_a_users_optimiser_gets_array_slots_rate_decay_and_step():
    devices = parallel.open_devices(tiny(3), "numpy")
    params = {"fc8": {"weight": np.array([1.0, 2.0]), "bias": np.array([3.0])}}
    grads = {"fc8": {"weight": np.array([0.5, -1.0]), "bias": np.array([2.0])}}
    optimiser = own(Counting)
    slots = optimiser.start(devices, params)
    for step in (0, 1):
        optimiser.update(devices, params, slots, grads, Rates(0.1, 0.2, 0.0), step)
    w, g = np.array([1.0, 2.0]), np.array([0.5, -1.0])
    w = w - 0.1 * (g + g**2) - 0.5 - 0
    w = w - 0.1 * (2 * g + 2 * g**2) - 0.5 - 10
    np.testing.assert_allclose(params["fc8"]["weight"], w)
    np.testing.assert_allclose(params["fc8"]["bias"], 3 - 0.2 * 6 - 0.5 - 0.2 * 12 - 0.5 - 10)
    assert slots["sum"]["fc8"]["bias"] == [4.0]


def test_adam_is_pytorchs():
    torch = pytest.importorskip("torch")
    rng, devices = np.random.default_rng(0), parallel.open_devices(tiny(3), "numpy")
    weight = rng.normal(size=(3, 4))
    theirs = torch.tensor(weight, requires_grad=True)
    reference = torch.optim.Adam([theirs], lr=0.02, weight_decay=0.5)
    optimiser = optim.get("adam", replace(PAPER, weight_decay=0.5))
    params = {"fc8": {"weight": weight}}
    slots = optimiser.start(devices, params)
    for step in range(5):
        gradient = rng.normal(size=(3, 4))
        optimiser.update(
            devices, params, slots, {"fc8": {"weight": gradient}}, Rates(0.02, 0.1, 0.0), step
        )
        theirs.grad = torch.tensor(gradient)
        reference.step()
    np.testing.assert_allclose(params["fc8"]["weight"], theirs.detach().numpy(), rtol=1e-12)


@pytest.mark.parametrize("optimiser", [own(Counting), optim.get("adam", PAPER)], ids=type)
@pytest.mark.parametrize("scheme", ["towers", "data", "hybrid"])
def test_slots_are_sharded_like_the_parameters(scheme, optimiser):
    network, found = tiny(4), []
    host = network.init(backends.get("numpy"), 1, "float64")
    for where in (None, [0, 1]):
        devices = parallel.open_devices(network, "numpy", where, scheme if where else None)
        params = devices.to_devices(map_tree(np.array, host))
        grads = devices.to_devices(map_tree(lambda w: np.sin(5 * w), host))
        slots = optimiser.start(devices, params)
        for step in (0, 1):
            optimiser.update(devices, params, slots, grads, Rates(0.1, 0.2, 0.0), step)
        trees = (params, *slots.values())
        found.append([devices.to_numpy(x) for tree in trees for *_, x in leaves(tree)])
    assert all(np.array_equal(one, two) for one, two in zip(*found, strict=True))


@pytest.mark.parametrize(
    ("give", "words"),
    [
        (lambda w: w, "returned ndarray: it must return the weight and its slots"),
        (lambda w: (w, {}), r"returned the slots \[\]: it has \['kept'\]"),
        (lambda w: (w, {"kept": w, "more": w}), r"returned the slots \['kept', 'more'\]"),
        (lambda w: (w[:1], {"kept": w}), r"the weight as float64 \(1,\): it must be float64"),
        (lambda w: (w, {"kept": w.astype("float32")}), "kept as float32"),
        (lambda w: (w, {"kept": 0.5}), "kept as float"),
        (lambda w: 1 / 0, "failed: ZeroDivisionError"),
    ],
)
def test_what_a_users_optimiser_must_return(give, words):
    class Wrong:
        slots = ("kept",)

        def __call__(self, b, weight, gradient, slots, rate, decay, step):
            return give(weight)

    devices, optimiser = parallel.open_devices(tiny(3), "numpy"), own(Wrong)
    params = {"fc8": {"weight": np.ones(2)}}
    slots = optimiser.start(devices, params)
    with pytest.raises(InputError, match=words):
        optimiser.update(devices, params, slots, params, Rates(0.1, 0.1, 0.0))


@pytest.mark.parametrize("slots", ["mean", ("a", "a"), ("a b",), ("average",), (3,)])
def test_names_of_slots(slots):
    def one(b, weight, gradient, slots, rate, decay, step):
        return weight, slots

    one.slots = slots
    if slots == "mean":  # a single name is not a tuple of letters
        assert own(one).slots == ("mean",)
        return
    with pytest.raises(InputError, match="give a tuple of different names"):
        own(one)


@pytest.mark.parametrize(
    ("optimiser", "compiled"),
    [(SGD(PAPER), True), (optim.get("adam", PAPER), True), (own(Counting), False)],
)
def test_steps_are_compiled_but_with_a_users_optimiser(optimiser, compiled):
    devices = parallel.open_devices(tiny(3), "cupy")
    step = TrainStep(
        tiny(3), devices, losses.SoftmaxCrossEntropy(), optimiser, feed=Constant(), batch_size=2
    )
    assert (step._compiled is not None) is compiled


def test_the_optimisers_step_counts_from_zero_slots():
    seen = []

    def noting(b, weight, gradient, slots, rate, decay, step):
        seen.append(step)
        return weight, slots

    network = tiny(3)
    devices = parallel.open_devices(network, "numpy")
    step = TrainStep(network, devices, losses.SoftmaxCrossEntropy(), own(noting))
    state = step.init()
    state.step, state.since = 9, 7
    batch = np.zeros((2, 12, 12, 3), np.float32), np.array([0, 1])
    step(state, batch, Rates(0.1, 0.1, 0.0))
    assert set(seen) == {2}


def test_plateau_divides_by_ten_three_times_at_most():
    assert plateau_drops([0.9, 0.8, 0.7], 2) == 0
    assert plateau_drops([0.9, 0.9, 0.9], 2) == 1
    assert plateau_drops([0.5, 0.6, 0.5, 0.4, 0.4, 0.4], 2) == 2
    recipe, errors = replace(PAPER, patience=1), []
    rates = []
    for epoch in range(7):
        rates.append(schedules.get("plateau")(recipe, epoch, errors).weight)
        errors.append(0.5)
    assert rates == pytest.approx([0.01, 0.01, 1e-3, 1e-4, 1e-5, 1e-5, 1e-5])


@pytest.mark.parametrize(
    ("epoch", "weights", "conv1", "bias1", "noise"),
    [
        (0, 0.01, 0.01, 0.02, 0.1),
        (24.9, 0.01, 0.01, 0.02, 0.1),
        (25, 0.001, 0.001, 0.02, 0.1),
        (51, 1e-4, 1e-4, 0.02, 0.1),
        (67, 1e-4, 1e-5, 0.02, 0.0),
        (72, 1e-4, 0.0, 0.0, 0.0),
        (79, 1e-5, 0.0, 0.0, 0.0),
    ],
)
def test_the_schedule_of_the_2012_run(epoch, weights, conv1, bias1, noise):
    rates = schedules.get("2012")(ORIGINAL, epoch, [])
    assert rates.of("conv2", "weight") == pytest.approx(weights)
    assert rates.of("conv1", "weight") == pytest.approx(conv1)
    assert rates.of("conv1", "bias") == pytest.approx(bias1)
    assert rates.of("conv2", "bias") == pytest.approx(0.02)
    assert rates.colour_noise == noise


def test_the_2012_schedule_stretches_to_other_lengths():
    short = replace(ORIGINAL, epochs=9.1)
    assert schedules.get("2012")(short, 2.4, []).weight == pytest.approx(0.01)
    assert schedules.get("2012")(short, 2.6, []).weight == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("name", "length", "falls"),
    [("caffe", 90, (20, 40, 60, 80)), ("caffe", 9, (2, 4, 6, 8)), ("cifar10", 140, (120, 130))],
)
def test_where_the_authors_and_caffes_schedules_fall(name, length, falls):
    recipe = Recipe(schedule=name, epochs=length)
    for i, fall in enumerate(falls):
        before, after = (schedules.get(name)(recipe, fall + x, []) for x in (-0.01, 0.0))
        assert before.weight == pytest.approx(0.01 * 0.1**i)
        assert after.weight == pytest.approx(0.01 * 0.1 ** (i + 1))
    assert schedules.get(name)(recipe, length, []).weight == pytest.approx(0.01 * 0.1 ** len(falls))


def test_the_automatic_schedule():
    weights = [schedules.get("dexp")(ORIGINAL, 91 * t, []).weight for t in (0, 0.26, 0.51, 0.76, 1)]
    assert weights == pytest.approx([0.01, 0.001587, 0.000252, 0.00004, 0.00004], rel=1e-3)
    biases = [schedules.get("dexp")(ORIGINAL, 91 * t, []).bias for t in (0, 0.49, 0.5, 1)]
    assert biases == pytest.approx([0.02, 0.02, 0.002, 0.002])


def test_step_cosine_constant():
    recipe = replace(PAPER, epochs=9)
    assert [schedules.get("step")(recipe, e, []).weight for e in (0, 3, 6, 9)] == pytest.approx(
        [0.01, 1e-3, 1e-4, 1e-4]
    )
    assert [schedules.get("poly")(recipe, e, []).weight for e in (0, 4.5, 9)] == pytest.approx(
        [recipe.lr, recipe.lr / 4, 0]
    )
    assert [schedules.get("cosine")(recipe, e, []).weight for e in (0, 4.5, 9)] == pytest.approx(
        [0.01, 0.005, 0.0]
    )
    assert schedules.get("constant")(recipe, 8, []).weight == 0.01


def test_an_unknown_schedule_is_refused():
    with pytest.raises(InputError, match="did you mean 'cosine'"):
        schedules.get("cosin")


@pytest.mark.parametrize("factor", [0.5, np.float32(0.5), np.array(0.5)])
def test_a_users_schedule_returns_a_factor(factor):
    own = schedules.Own(lambda recipe, epoch, errors: factor, "own.py:half")
    assert own(PAPER, 0, []).weight == 0.5 * PAPER.lr


@pytest.mark.parametrize("factor", ["0.5", None, True, np.nan, np.float32("inf")])
def test_invalid_factors_are_refused(factor):
    own = schedules.Own(lambda recipe, epoch, errors: factor, "own.py:odd")
    with pytest.raises(
        InputError, match=r"own.py:odd returned .* in epoch 2: it must return a factor"
    ):
        own(PAPER, 2, [])
