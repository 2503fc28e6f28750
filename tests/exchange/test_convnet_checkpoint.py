"""cuda-convnet's checkpoints: the same scores, and nothing in the pickle is executed."""

import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from contextlib import suppress
from functools import partial

import numpy as np
import pytest
from helpers.damage import COUNTS, refusals
from helpers.strategies import grid
from PIL import Image

from minialex.errors import InputError
from minialex.exchange.read import read
from minialex.inference.classifier import from_portable, load
from minialex.parallel import DeviceConfig

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")
SIZE, CLASSES = 8, 5


class Python2(pickle._Pickler):
    """Writes text and bytes as Python 2 wrote its strings."""

    dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012

    def save_string(self, value):
        data = value.encode("latin1") if isinstance(value, str) else value
        self.write(b"T" + struct.pack("<i", len(data)) + data)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = save_string


class OptionsParser:
    """An object of the program's own, as a checkpoint holds one."""

    def __init__(self):
        self.options = {"gpu": [0], "parser": OptionsParser}


def layer(name, kind, inputs=(), **more):
    return {"name": name, "type": kind, "inputs": list(inputs), **more}


def weights(seed, *shapes):
    made = [np.asarray(0.3 * grid(shape, seed + i), np.float32) for i, shape in enumerate(shapes)]
    return {"weights": made, "weightsInc": [0 * one for one in made]}


def bias(seed, count):
    return {"biases": np.asarray(grid((count, 1), seed), np.float32)}


def network():
    """Two columns that cross once, like the authors'; values as their parser stores them."""
    found = [
        layer("data", "data", outputs=3 * SIZE * SIZE, dataIdx=0),
        layer("labels", "data", outputs=1, dataIdx=1),
    ]
    for i, x in enumerate("ab"):
        geometry = {"channels": [3], "filterSize": [3], "padding": [-1], "stride": [1]}
        geometry |= {"groups": [1], "filters": 4, "sharedBiases": True, "initW": [0.01]}
        found += [
            layer(f"conv1{x}", "conv", ["data"], **geometry, **weights(i, (27, 4)), **bias(i, 4)),
            layer(f"norm1{x}", "cmrnorm", [f"conv1{x}"], channels=4, size=3, scale=0.2, pow=0.75),
            layer(f"pool1{x}", "pool", [f"norm1{x}"], channels=4, sizeX=3, stride=2, pool="max")
            | {"start": 0, "outputsX": 4},
            layer(f"pool1{x}_neuron", "neuron", [f"pool1{x}"], neuron={"type": "relu"}),
        ]
    for i, x in enumerate("ab"):
        # the second column reads the first one's output last
        inputs = [f"pool1{y}_neuron" for y in ("ab" if x == "a" else "ba")]
        geometry = {"channels": [4, 4], "filterSize": [3, 3], "padding": [-1, -1]}
        geometry |= {"stride": [1, 1], "groups": [1, 1], "filters": 6, "sharedBiases": True}
        shapes = weights(7 + 2 * i, (36, 6), (36, 6))
        found.append(layer(f"conv2{x}", "conv", inputs, **geometry, **shapes, **bias(9 + i, 6)))
    shapes = weights(20, (6 * 16, CLASSES), (6 * 16, CLASSES))
    shapes["weights"] = [np.asfortranarray(one) for one in shapes["weights"]]
    found.append(layer("fc", "fc", ["conv2b", "conv2a"], outputs=CLASSES, **shapes))
    found[-1]["biases"] = np.asarray(grid((1, CLASSES), 3), np.float32)
    found += [
        layer("probs", "softmax", ["fc"]),
        layer("logprob", "cost.logreg", ["labels", "probs"]),
    ]
    return found


def theirs(images, mean):
    """The scores by PyTorch, in N C H W as in cuda-convnet."""
    f, of = torch.nn.functional, {one["name"]: one for one in network()}

    def tensor(name, i, *shape):
        return torch.tensor(np.ascontiguousarray(of[name]["weights"][i].T)).reshape(shape)

    def biases(name):
        return torch.tensor(of[name]["biases"].ravel())

    x = torch.tensor(images.astype(np.float32) - mean).permute(0, 3, 1, 2)
    columns = {}
    for c in "ab":
        y = f.conv2d(x, tensor(f"conv1{c}", 0, 4, 3, 3, 3), biases(f"conv1{c}"), padding=1)
        y = f.local_response_norm(y, 3, 0.2 * 3, 0.75, 1.0)
        columns[c] = torch.relu(f.max_pool2d(y, 3, 2, ceil_mode=True))
    second = {}
    for c in "ab":
        order = "ab" if c == "a" else "ba"
        parts = [
            f.conv2d(columns[y], tensor(f"conv2{c}", i, 6, 4, 3, 3), padding=1)
            for i, y in enumerate(order)
        ]
        second[c] = parts[0] + parts[1] + biases(f"conv2{c}")[:, None, None]
    scores = biases("fc")
    for i, c in enumerate("ba"):
        scores = scores + second[c].flatten(1) @ tensor("fc", i, CLASSES, 96).T
    return scores.numpy()


def numbered(layers):
    """In the format of the first versions: inputs by index."""
    names = [one["name"] for one in layers]
    return [{**one, "inputs": [names.index(name) for name in one["inputs"]]} for one in layers]


def by_name(layers):
    """In the format of later versions, in any order."""
    made = OrderedDict((one["name"], one) for one in reversed(layers))
    for one in made.values():
        one["inputLayers"] = [made[name] for name in one["inputs"]]
    return made


def written(path, layers, archive=False):
    path.parent.mkdir(exist_ok=True)
    state = {"layers": layers, "epoch": 3, "batchnum": 1, "cost": np.float32(0.5)}
    with path.open("wb") as file:
        Python2(file, 2).dump({"model_state": state, "op": OptionsParser()})
    if archive:
        content = path.read_bytes()
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr("data", content)
    return path


@pytest.fixture
def images(tmp_path):
    """A folder of training images, and their mean."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (12, SIZE, SIZE, 3), np.uint8)
    for i, image in enumerate(pixels):
        folder = tmp_path / "images" / "train" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{i}.png")
        if i < 2:
            (tmp_path / "images" / "val" / "ab"[i]).mkdir(parents=True)
            Image.fromarray(image).save(tmp_path / "images" / "val" / "ab"[i] / "v.png")
    return tmp_path / "images", pixels, pixels.mean(0).astype(np.float32)


@pytest.mark.parametrize("form", ["numbered", "named", "archive"])
def test_scores_match_cuda_convnet(tmp_path, images, form):
    folder, pixels, mean = images
    layers = numbered(network()) if form == "numbered" else by_name(network())
    path = written(tmp_path / "ConvNet__2012" / "10.2", layers, form == "archive")
    written(tmp_path / "ConvNet__2012" / "9.5", numbered(network()[:4]))
    portable = read(path.parent, mean=folder)  # the newest of the folder
    trained = from_portable(portable, DeviceConfig("numpy")).trained
    [view] = portable.preprocessing.views(1)
    found = trained.scores(pixels, view)
    wanted = theirs(pixels, mean)
    np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max())
    names = [name for name, _ in portable.model.network.layers]
    assert names == ["conv1", "norm1", "pool1", "pool1-relu", "conv2", "fc"]


def test_without_the_mean_image_it_cannot_be_loaded(tmp_path):
    path = written(tmp_path / "run" / "1.1", numbered(network()))
    with pytest.raises(InputError, match="the folder of the training images with --mean"):
        load(path)
    assert read(path, for_training=True).model.network.classes == CLASSES


class Evil:
    def __init__(self, call, *arguments):
        self.call = call, arguments

    def __reduce__(self):
        return self.call


def test_no_code_in_it_is_called(tmp_path):
    """A pickle that calls os.mkdir and os.system loads as a network, and makes no folder."""
    layers = numbered(network())
    layers[2]["initWFunc"] = Evil(os.mkdir, str(tmp_path / "made"))
    layers[3]["extra"] = [Evil(os.system, f"touch {tmp_path / 'touched'}"), Evil(eval, "1/0")]
    path = written(tmp_path / "run" / "1.1", layers)
    assert read(path, for_training=True).model.network.classes == CLASSES
    assert not (tmp_path / "made").exists()
    assert not (tmp_path / "touched").exists()


def _changed(change):
    layers = network()
    change({one["name"]: one for one in layers})
    return numbered(layers)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda of: of["conv1a"].update(weights=[]), "'conv1a' has no weights"),
        (
            lambda of: of["fc"]["weights"].reverse() or of["fc"].update(outputs=6),
            "'fc' has weights",
        ),
        (lambda of: of["fc"].update(biases=np.full((1, 5), np.nan, "f4")), "not finite"),
        (lambda of: of["conv2a"].update(type="local"), "'conv2a'|'conv2b'"),
        (lambda of: of["data"].update(outputs=10), "square images"),
        (lambda of: of["pool1a_neuron"].update(neuron={"type": "abs"}), "differ|'abs'"),
        (lambda of: of["conv1a"].update(inputs=["probs"]), "form a cycle"),
        (lambda of: of["conv1a"].update(filters=None), "filters"),
        (
            lambda of: [of[f"pool1{x}"].update(pool="avg", sum=1) for x in "ab"],
            "this pooling .avg. is not supported",
        ),
        (lambda of: of["data"].update(outputs=3 * 40_000**2), "which is too large"),
    ],
)
def test_unsupported_layers_are_named(tmp_path, change, sentence):
    path = written(tmp_path / "run" / "1.1", _changed(change))
    with pytest.raises(InputError, match=sentence) as caught:
        read(path, for_training=True)
    assert "\n" not in str(caught.value)


@COUNTS
@pytest.mark.parametrize("archive", [False, True])
def test_damage_gives_a_one_sentence_error(tmp_path, archive, count):
    path = written(tmp_path / "run" / "1.1", numbered(network()), archive)
    assert len(refusals(path, partial(read, for_training=True), count)) > 0.3 * count


def test_a_value_that_keeps_doubling_is_not_expanded(tmp_path):
    """Forty lists, each twice in the next: a terabyte of text, from a few hundred bytes."""
    value = ["ha"]
    for _ in range(40):
        value = [value, value]
    for change in ({"initW": value}, {"name": value}, {"pool": value}, {"neuron": value}):
        layers = numbered(network())
        layers[3].update(change)
        with suppress(InputError):
            read(written(tmp_path / "run" / "1.1", layers), for_training=True)


def test_an_archive_with_an_excessive_claim_is_refused(tmp_path):
    path = tmp_path / "1.1"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("data", bytes(60 << 20))
    with pytest.raises(InputError, match="claims 62,914,560 bytes"):
        read(path, for_training=True)
