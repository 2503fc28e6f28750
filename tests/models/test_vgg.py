"""VGG: its initial weights, and deep configurations initialised from the shallow one."""

import json

import numpy as np
import pytest
from helpers.noise import Noise
from helpers.portables import drawn
from safetensors.numpy import load_file

import minialex
from minialex import backends, models
from minialex.data.dataset import Splits
from minialex.data.preprocessing import Preprocessing
from minialex.errors import InputError
from minialex.exchange.write import write
from minialex.layers import Conv2D, Dense, Dropout, InitialDraw
from minialex.models.vgg import SHARED, deepen, vgg
from minialex.utils import checkpoint

b = backends.get("numpy")
SMALL = {"batch_size": 12, "epochs": 1, "max_steps": 1, "progress": False, "backend": "numpy"}
FEW = {"input_size": 32, "width": 2, "hidden": 8}


def test_the_configurations_have_the_papers_depths():
    depths = {
        name: sum(isinstance(l, Conv2D | Dense) for _, l in models.get(name).network.layers)
        for name in ("vgg-11", "vgg-16", "vgg-19")
    }
    assert depths == {"vgg-11": 11, "vgg-16": 16, "vgg-19": 19}
    connections = {
        name: round(sum(row.connections for row in models.get(name).network.rows()) / 1e7)
        for name in ("vgg-16", "vgg-19")
    }
    assert connections == {"vgg-16": 1547, "vgg-19": 1963}


def test_glorots_standard_deviation():
    shapes = {Conv2D(300, 3, weight_std="glorot"): (9, 9, 100), Dense(300, "glorot"): (600,)}
    for (layer, shape), inputs, outputs in zip(
        shapes.items(), (900, 600), (2700, 300), strict=True
    ):
        weight = layer.init(b, InitialDraw(0), shape, "float64")["weight"]
        assert weight.std() == pytest.approx((2 / (inputs + outputs)) ** 0.5, rel=0.01)
    with pytest.raises(InputError, match='"glorot" or a number'):
        Dense(3, "xavier").init(b, InitialDraw(0), (2,), "float64")


def test_scaled_initialisation_keeps_the_signal_alive():
    x = np.random.default_rng(0).normal(0, 60, (4, 32, 32, 3))
    spread = {}
    for init in ("he", "glorot", 0.01):
        network = vgg(10, configuration="E", init=init, **{**FEW, "width": 8, "hidden": 64})
        y = network.until("fc7").infer(b, network.init(b, 0, "float64"), x)
        spread[init] = y.std()
    assert spread["he"] > 0.1
    assert spread["glorot"] > 1000 * spread[0.01]
    assert spread[0.01] < 1e-6


def test_a_deep_network_starts_from_a_shallow_one():
    shallow = vgg(5, configuration="A", **FEW).init(b, 1)
    for configuration in ("D", "E"):
        fresh = vgg(5, configuration=configuration, **FEW).init(b, 2)
        deep = deepen(shallow, fresh)
        assert list(deep) == list(fresh)
        for layer in fresh:
            source = shallow if layer in SHARED else fresh
            for name in ("weight", "bias"):
                np.testing.assert_array_equal(deep[layer][name], source[layer][name])


@pytest.mark.parametrize(
    ("classes", "name", "sentence"),
    [(6, "A", r"fc8.weight is \(8, 6\) in the shallow"), (5, None, "must be VGG networks")],
)
def test_mismatched_weights_are_refused(classes, name, sentence):
    other = vgg(classes, configuration=name, **FEW) if name else models.get("cifar10", 5).network
    with pytest.raises(InputError, match=sentence):
        deepen(other.init(b), vgg(5, **FEW).init(b))


def test_training_from_a_shallow_network(tmp_path):
    minialex.train("shapes:48", model="vgg-11-64", out=tmp_path / "a", **SMALL)
    settings = {**SMALL, "lr": 1e-30, "shallow": tmp_path / "a" / "last.safetensors"}
    minialex.train("shapes:48", model="vgg-16-64", out=tmp_path / "d", **settings)
    shallow = load_file(tmp_path / "a" / "last.safetensors")
    deep = load_file(tmp_path / "d" / "last.safetensors")
    for layer in SHARED:
        np.testing.assert_array_equal(deep[f"{layer}.weight"], shallow[f"{layer}.weight"])
    first, again = shallow["conv1_1.weight"], models.get("vgg-11-64", 12).network.init(b, 0)
    assert np.abs(first - again["conv1_1"]["weight"]).max() > 0  # it had been trained
    minialex.train("shapes:48", model="vgg-16-64", out=tmp_path / "d", resume=True, **{
        **settings, "max_steps": 2
    })  # fmt: skip


def test_only_the_mean_colour_is_subtracted(tmp_path):
    result = minialex.train("shapes:48", model="vgg-11-64", out=tmp_path / "a", **SMALL)
    preprocessing: Preprocessing = result.classifier.preprocessing
    images = np.zeros((1, 72, 72, 3), np.uint8)
    x = preprocessing.test_input(b, images, (0, 8, True), "float32")
    colour = -preprocessing.statistics.mean.mean(axis=(0, 1))
    np.testing.assert_allclose(x, np.broadcast_to(colour, x.shape), rtol=1e-6)
    assert "minus mean colour" in preprocessing.recipe.line()


# ------------------------------------------------------------------------ the form of dropout


def forms(network):
    return {layer.inverted for _, layer in network.layers if isinstance(layer, Dropout)}


@pytest.mark.parametrize("name", ["vgg-11", "vgg-16", "vgg-19", "cnn-m-2048"])
def test_new_networks_use_inverted_dropout_and_stored_ones_keep_theirs(name):
    assert forms(models.get(name).network) == {True}
    assert forms(models.get(name, inverted=False).network) == {False}
    assert forms(models.stored(name, 1000, {}).network) == {False}
    again = models.get(name)
    assert models.stored(name, 1000, again.options).network == again.network


def _as_before(folder):
    """A run written by a version that knew only one form."""
    for path in folder.glob("*.safetensors"):
        tensors, described = checkpoint.load(path)
        del described["model"]["options"]["inverted"]
        checkpoint.save(path, tensors, {k: v for k, v in described.items() if k != "format"})
    config = json.loads((folder / "config.json").read_text())
    del config["settings"]["model_options"]["inverted"]
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("old", [False, True])
def test_runs_keep_their_form_of_dropout(tmp_path, old):
    """Resumed, also with the options given again; and when another run starts from them."""
    first = {**SMALL, "model": "vgg-11", "model_options": FEW, "batch_size": 2, "epochs": 2}
    data = Splits(Noise(), Noise())
    folder = minialex.train(data, **first, out=tmp_path / "run").run_dir
    if old:
        _as_before(folder)
    assert forms(minialex.load(folder, "numpy").model.network) == {not old}
    for given in ({}, {"model": "vgg-11", "model_options": FEW}):
        again = {**given, "progress": False, "max_steps": 2}
        run = minialex.train(data, out=folder, resume=True, **again)
        assert forms(run.classifier.model.network) == {not old}
    for start in ({"initial": folder}, {"shallow": folder}):
        deeper = {**first, "model": "vgg-16", **start}
        found = minialex.train(data, **deeper, out=tmp_path / next(iter(start)))
        assert forms(found.classifier.model.network) == {not old}


def test_a_shallow_network_from_another_programs_file(tmp_path):
    """Its form of dropout is that of new networks; from our own files, the form is kept."""
    path = tmp_path / "vgg11.safetensors"
    write(drawn(vgg(12, configuration="A", inverted=True, **FEW)), path)
    given = {**SMALL, "model": "vgg-16", "model_options": FEW, "shallow": path, "lr": 1e-30}
    found = minialex.train("shapes:48", allow_upscaling=True, out=tmp_path / "d", **given)
    assert found.classifier.model.options["inverted"] is True
    first = minialex.load(path, "numpy").params["conv1_1"]["weight"]
    np.testing.assert_allclose(found.classifier.params["conv1_1"]["weight"], first, rtol=1e-5)
