"""cuda-convnet's layer definitions: the printed table, and the networks built from them."""

import json

import pytest
from helpers.damage import COUNTS, refusals
from helpers.noise import Noise
from hypothesis import given, settings
from hypothesis import strategies as st

import minialex
from minialex import models
from minialex.cli.main import main
from minialex.data.dataset import Splits
from minialex.errors import InputError
from minialex.exchange.convnet.open import open_cfg
from minialex.exchange.definitions import model_of
from minialex.layers import Sigmoid

NO_IMAGES = "[labels]\ntype=data\ndataIdx=1\n[fc]\ntype=fc\ninputs=labels\noutputs=10\n"
SMALL = """
[data]
type=data
dataIdx=0
[labels]
type=data
dataIdx=1
[conv1]
type=conv
inputs=data
channels=3
filters=16
padding=2
stride=1
filterSize=5
initW=0.01
partialSum=4
sharedBiases=1
neuron=relu
[pool1]
type=pool
pool=max
inputs=conv1
sizeX=3
stride=2
channels=16
[rnorm1]
type=cmrnorm
inputs=pool1
channels=16
size=5
[fc10]
type=fc
inputs=rnorm1
outputs=10
initW=0.1   ; of the last
[probs]
type=softmax
inputs=fc10
[logprob]
type=cost.logreg
inputs=labels,probs
"""
PARAMETERS = """
# notes of a run
[conv1]
epsW=0.001
epsB=0.002
momW=0.8
momB=0.8
wc=0.004
[rnorm1]
scale=0.0005
pow=0.5
[fc10]
epsW=0.001
epsB=0.002
momW=0.8
momB=0.8
wc=1
[logprob]
coeff=1
"""


def written(folder, layers=SMALL, parameters=PARAMETERS, name="net"):
    (folder / f"layers-{name}.cfg").write_text(layers)
    if parameters is not None:
        (folder / f"layer-params-{name}.cfg").write_text(parameters)
    return folder / f"layers-{name}.cfg"


def printed(capsys, *words):
    """What a command prints."""
    assert main(list(words)) == 0
    return capsys.readouterr().out


def test_the_table(tmp_path, capsys):
    out = printed(capsys, "summary", str(written(tmp_path)))
    assert "layers-net.cfg: 8 layers, images of 32 x 32" in out
    rows = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert "conv 5/1 pad 2, relu" in rows["conv1"]
    assert rows["conv1"].split()[-2:] == ["32x32x16", "1,216"]
    assert "16x16x16" in rows["pool1"]  # it rounds up
    assert rows["total"].split()[-1] == f"{1216 + 16 * 16 * 16 * 10 + 10:,}"
    assert "minialex train --model" in out
    out = printed(
        capsys, "summary", str(tmp_path / "layer-params-net.cfg"), "--option", "input_size=24"
    )
    assert "images of 24 x 24" in out
    document = json.loads(printed(capsys, "summary", str(tmp_path / "layers-net.cfg"), "--json"))
    assert document["parameters"] == 1216 + 40970


def test_the_network_and_its_recipe(tmp_path):
    model = model_of(written(tmp_path))
    assert [name for name, _ in model.network.layers] == [
        *("conv1", "conv1-relu", "pool1", "rnorm1", "fc10")
    ]
    norm = dict(model.network.layers)["rnorm1"]
    assert (norm.n, norm.k, norm.alpha, norm.beta) == (5, 1.0, 0.0001, 0.5)
    recipe = model.recipe
    assert (recipe.lr, recipe.bias_rate, recipe.momentum, recipe.weight_decay) == (
        *(0.001, 2.0, 0.8, 0.004),
    )
    assert recipe.layer_decays == {"fc10": 250.0}
    assert (recipe.resize, recipe.crop) == (32, 32)


def test_logistic_neurons(tmp_path):
    """Of a layer, and as a layer; others are refused by name."""
    layer = "[neuron1]\ntype=neuron\ninputs=pool1\nneuron=logistic\n[rnorm1]"
    text = SMALL.replace("neuron=relu", "neuron=logistic").replace("[rnorm1]", layer)
    network = model_of(
        written(tmp_path, text.replace("inputs=pool1\nch", "inputs=neuron1\nch"))
    ).network
    assert [name for name, layer in network.layers if isinstance(layer, Sigmoid)] == [
        *("conv1-logistic", "pool1-logistic")
    ]
    with pytest.raises(InputError, match="'conv1': the neuron 'square' is not supported"):
        model_of(written(tmp_path, SMALL.replace("neuron=relu", "neuron=square")))


def column(name, **values):
    return f"[{name}]\n" + "".join(f"{key}={value}\n" for key, value in values.items())


def towers():
    """The layers of the network behind the paper's tables, as its authors wrote them down."""
    text = column("data", type="data", dataIdx=0) + column("labels", type="data", dataIdx=1)

    def both(name, inputs, **values):
        nonlocal text
        for letter in "ab":
            of = ",".join(one + letter if one != "data" else one for one in inputs.split())
            if values["type"] == "fc" or "across" in values:
                of = ",".join(one + each for one in inputs.split() for each in "ab")
            kept = {k: v for k, v in values.items() if k != "across"}
            text += column(name + letter, inputs=of, gpu="ab".index(letter), **kept)

    def conv(name, inputs, channels, filters, size, stride, pad, std, bias, **more):
        geometry = {"filterSize": size, "stride": stride, "padding": pad, "channels": channels}
        more = {**geometry, "filters": filters, "initW": std, "initB": bias, **more}
        both(name, inputs, type="conv", **more)

    def pool(name, inputs, channels, **more):
        more = {"pool": "max", "sizeX": 3, "stride": 2, "channels": channels, **more}
        both(name, inputs, type="pool", **more)

    conv("conv1", "data", 3, 48, 11, 4, 0, 0.01, 0)
    both("rnorm1", "conv1", type="cmrnorm", channels=48, size=5)
    pool("pool1", "rnorm1", 48, neuron="relu")
    conv("conv2", "pool1", 48, 128, 5, 1, 2, 0.01, 1, neuron="relu")
    both("rnorm2", "conv2", type="cmrnorm", channels=128, size=5)
    both("cnorm2", "rnorm2", type="rnorm", channels=128, size=5)
    pool("pool2", "cnorm2", 128)
    twice = {"across": True, "neuron": "relu"}
    conv("conv3", "pool2", "128,128", "192,192", "3,3", "1,1", "1,1", "0.03,0.03", 0, **twice)
    conv("conv4", "conv3", 192, 192, 3, 1, 1, 0.03, 1, neuron="relu")
    conv("conv5", "conv4", 192, 128, 3, 1, 1, 0.03, 1)
    pool("pool5", "conv5", 128, neuron="relu")
    for name, below in (("6", "pool5"), ("7", "hs6")):
        dense = {"outputs": 2048, "initW": "0.01,0.01", "initB": 1, "neuron": "relu"}
        both(f"fc{name}", below, type="fc", **dense)
        both(f"hs{name}", f"fc{name}", type="hs", keep=0.5)
    text += column("fc8", type="fc", inputs="hs7a,hs7b", outputs=1000, initW="0.01,0.01")
    text += column("probs", type="softmax", inputs="fc8")
    return text + column("logprob", type="cost.logreg", inputs="labels,probs")


NORMS = "".join(
    column(f"{name}{letter}", scale=scale, pow=0.75, **more)
    for name, scale, more in (
        ("rnorm1", 0.0001, {"minDiv": 2}),
        ("rnorm2", 0.0001, {"minDiv": 2}),
        ("cnorm2", 0.001, {}),
    )
    for letter in "ab"
)


def test_two_columns_are_the_network_of_2012(tmp_path):
    path = written(tmp_path, towers(), NORMS)
    assert sum(node.parameters for node in open_cfg(path).nodes.values()) == 60_965_224
    found, wanted = model_of(path), models.get("alexnet-2012")
    assert [layer for _, layer in found.network.layers] == [
        layer for _, layer in wanted.network.layers
    ]
    for field in ("crop", "mean_window", "crop_chunk", "colour_noise", "colour_divide"):
        assert getattr(found.recipe, field) == getattr(wanted.recipe, field)


def test_it_trains_and_resumes(tmp_path):
    """With the data's classes; resumed with and without the file, which may be gone."""
    path, data = written(tmp_path), Splits(Noise(), Noise())
    options = {"batch_size": 3, "epochs": 2, "progress": False, "backend": "numpy"}
    first = {**options, "model": str(path), "out": tmp_path / "run"}
    part = minialex.train(data, **first, max_steps=1)
    assert part.classifier.model.classes == 3
    minialex.train(data, out=tmp_path / "run", resume=True, model=str(path), progress=False)
    path.unlink()
    whole = minialex.train(data, out=tmp_path / "run", resume=True, progress=False)
    loaded = minialex.load(tmp_path / "run", "numpy")
    assert loaded.model.network == whole.classifier.model.network


SIDE = SMALL.replace("inputs=rnorm1", "inputs=rnorm1,pool1")
LOCAL = SMALL.replace("type=conv", "type=local").replace("sharedBiases=1\n", "")


def test_unsupported_networks_print_but_do_not_train(tmp_path, capsys):
    out = printed(capsys, "summary", str(written(tmp_path, LOCAL)))
    assert "images of 24 x 24" in out
    assert f"{(75 + 1) * 16 * 24 * 24:,}" in out  # each pixel's own weights and biases
    assert "cannot be trained: layer 'conv1': a layer of type 'local'" in out
    with pytest.raises(InputError, match=r"cannot be trained .*'local'"):
        model_of(tmp_path / "layers-net.cfg")
    with pytest.raises(InputError, match="'fc10' takes rnorm1, pool1: only identical columns"):
        model_of(written(tmp_path, SIDE))


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ("inputs=pool1", "inputs=pool9", "'rnorm1' takes 'pool9', which does not come before it"),
        ("type=pool", "type=pooh", "of an unknown type: 'pooh'"),
        ("filters=16", "filters=many", "'conv1' has filters = many"),
        ("filters=16\n", "", "'conv1' has no filters"),
        ("filters=16", "filters=99999999", "has filters = 99999999"),
        ("stride=2", "stride=0", "has stride = 0"),
        ("filterSize=5", "filterSize=50", "does not fit"),
        ("size=5", "size=4", "n must be odd"),
        ("size=5", "size=0", "has a window of 0"),
        ("channels=16\nsize", "channels=7\nsize", "square images of 7 channels"),
        ("[data]", "[data", "not a layer definition"),
        (SMALL, NO_IMAGES, "no layer provides images"),
        (SMALL, "", "defines no layers"),
    ],
)
def test_damaged_definitions_are_refused(tmp_path, before, after, sentence):
    path = written(tmp_path, SMALL.replace(before, after, 1), None)
    with pytest.raises(InputError, match=sentence) as caught:
        model_of(path)
    assert "\n" not in str(caught.value)


def test_parameter_files_find_their_layer_files(tmp_path):
    """By number, by their notes, or by the same names under the nearest smaller number."""
    written(tmp_path, SMALL, None, "145")
    written(tmp_path, SMALL, None, "160")
    written(tmp_path, SMALL.replace("fc10", "fc11"), None, "170")
    for name, notes, wanted in (
        ("145-2010", "", "145"),
        ("171", "", "160"),
        ("172", "# this is like #99 (so uses same def file: 145) but slower\n", "145"),
        ("173", "# this is like #145 (so uses same file) but with more\n", "145"),
    ):
        path = tmp_path / f"layer-params-{name}.cfg"
        path.write_text(PARAMETERS + notes)
        assert open_cfg(path).path.name == f"layers-{wanted}.cfg"
    alone = tmp_path / "elsewhere"
    alone.mkdir()
    (alone / "layer-params-3.cfg").write_text(PARAMETERS)
    with pytest.raises(InputError, match="give the layers' own file"):
        open_cfg(alone / "layer-params-3.cfg")


@COUNTS
def test_damage_gives_a_one_sentence_error(tmp_path, count):
    path = tmp_path / "layers-odd.cfg"
    path.write_text(SMALL)
    assert len(refusals(path, model_of, count)) > 0.3 * count


@settings(max_examples=30)
@given(content=st.binary(max_size=80))
def test_noise_gives_a_one_sentence_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "layers-noise.cfg"
    path.write_bytes(content)
    _sentence(path)


def _sentence(path):
    said = ""
    try:
        model_of(path)
    except InputError as error:
        said = str(error)
    assert "\n" not in said
    assert len(said) < 800


def test_a_prototxt_defines_a_network_too(tmp_path, capsys):
    path = tmp_path / "net.prototxt"
    path.write_text(
        'name: "n" input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }\n'
        'layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" '
        "inner_product_param { num_output: 4 } }"
    )
    out = printed(capsys, "summary", str(path))
    assert "net.prototxt" in out
    assert "4 units" in out
    assert model_of(path, 7).network.classes == 7
    path.write_text(path.read_text().replace("input_shape", "unknown"))
    with pytest.raises(InputError, match="input_size=N"):
        model_of(path)
    assert model_of(path, size=9).network.input_shape == (9, 9, 3)


def test_dense_columns_connected_through_concatenation(tmp_path):
    """Split as in cuda-convnet2: each column reads all others through a pass-through layer."""
    start = SMALL[: SMALL.index("[fc10]")]
    text = start
    for x in "ab":
        text += column(f"fc1{x}", type="fc", inputs="rnorm1", outputs=8, neuron="relu")
    for x in "ab":
        text += column(f"pass{x}", type="pass", inputs="fc1a,fc1b")
    for x in "ab":
        text += column(f"fc2{x}", type="fc", inputs=f"pass{x}", outputs=6)
    text += column("pass2", type="pass", inputs="fc2a,fc2b")
    text += column("fc3", type="fc", inputs="pass2", outputs=4)
    path = written(tmp_path, text, None)
    network = model_of(path).network
    assert [(n, s["weight"]) for n, s in network.parameter_shapes().items()][1:] == [
        *(("fc1", (4096, 16)), ("fc2", (16, 12)), ("fc3", (12, 4)))
    ]
    total = sum(node.parameters for node in open_cfg(path).nodes.values())
    assert total == network.parameter_count
