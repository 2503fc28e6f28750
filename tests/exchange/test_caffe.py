"""Caffe's networks and weights give the same results here as in Caffe."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.caffe_files import blob, encode, prototxt
from helpers.damage import COUNTS, refusals
from helpers.noise import Noise
from helpers.slim import slim_variant
from helpers.strategies import grid
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from minialex import backends, models
from minialex.data.dataset import Splits
from minialex.errors import InputError
from minialex.exchange.caffe import model, text
from minialex.exchange.caffe.images import mean_image
from minialex.exchange.definitions import model_of
from minialex.exchange.read import read
from minialex.inference.classifier import from_portable, load
from minialex.layers import ChannelScale, Conv2D, Dense, Dropout, MaxPool, ReLU, ResponseNorm
from minialex.models import registry
from minialex.optim import SGD, Rates
from minialex.parallel import DeviceConfig
from minialex.training.train import train

SIZE, CHANNELS, CLASSES = 13, 4, 5


def layer(name, kind, bottom, top=None, **more):
    return {"name": name, "type": kind, "bottom": bottom, "top": top or name, **more}


def small(dtype=np.float32):
    """Every supported kind of layer, in Caffe's current format: a NetParameter with blobs."""
    conv1 = {"num_output": 6, "kernel_size": 3, "stride": 2, "pad": 1}
    conv2 = {"num_output": 4, "kernel_size": 3, "group": 2, "pad": 1, "bias_term": 0}
    across = {"local_size": 3, "alpha": 0.5, "beta": 0.75, "k": 2.0}
    within = {"local_size": 3, "alpha": 0.9, "norm_region": "WITHIN_CHANNEL"}
    ave = {"pool": "AVE", "kernel_size": 3, "stride": 2, "pad": 1}
    shapes = {"conv1": (6, 3, 3, 3), "conv2": (4, 3, 3, 3), "fc1": (7, 16), "fc2": (CLASSES, 7)}
    blobs = {
        name: [grid(shape, i).astype(dtype), grid(shape[:1], i + 9).astype(dtype)]
        for i, (name, shape) in enumerate(shapes.items())
    }
    rates = [{"lr_mult": 1.0, "decay_mult": 1.0}, {"lr_mult": 2.0, "decay_mult": 0.0}]
    return {
        "name": "small",
        "layer": [
            {
                "name": "images",
                "type": "Data",
                "top": ["data", "label"],
                "transform_param": {"crop_size": SIZE, "scale": 0.5, "mean_value": [3.0, 2.0, 1.0]},
            },
            layer("conv1", "Convolution", "data", convolution_param=conv1, blobs=blobs["conv1"]),
            layer("relu1", "ReLU", "conv1", "conv1"),
            layer("norm1", "LRN", "conv1", lrn_param=across),
            layer("pool1", "Pooling", "norm1", pooling_param={"kernel_size": 3, "stride": 2}),
            layer("within", "LRN", "pool1", lrn_param=within),
            layer(
                "conv2",
                "Convolution",
                "within",
                convolution_param=conv2,
                blobs=blobs["conv2"][:1],
            ),
            layer("tanh", "TanH", "conv2", "conv2"),
            layer("pool2", "Pooling", "conv2", pooling_param=ave),
            layer(
                "fc1",
                "InnerProduct",
                "pool2",
                inner_product_param={"num_output": 7},
                blobs=blobs["fc1"],
                param=rates,
            ),
            layer("drop", "Dropout", "fc1", "fc1", dropout_param={"dropout_ratio": 0.3}),
            layer(
                "fc2",
                "InnerProduct",
                "fc1",
                inner_product_param={"num_output": CLASSES},
                blobs=blobs["fc2"],
                param=rates,
            ),
            layer("right", "Accuracy", ["fc2", "label"]),
            layer("loss", "SoftmaxWithLoss", ["fc2", "label"]),
        ],
    }


def in_caffe(images):
    """Caffe's scores for images (N, H, W, 3), RGB, computed by PyTorch in N C H W."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")
    f = torch.nn.functional
    blobs = {one["name"]: one.get("blobs") for one in small()["layer"]}
    tensor = {k: [torch.tensor(a) for a in v] for k, v in blobs.items() if v}
    mean = torch.tensor([3.0, 2.0, 1.0])[:, None, None]
    bgr = torch.tensor(images[..., ::-1].copy()).permute(0, 3, 1, 2).float()
    x = 0.5 * (bgr - mean)
    x = torch.relu(f.conv2d(x, *tensor["conv1"], stride=2, padding=1))
    x = f.local_response_norm(x, 3, 0.5, 0.75, 2.0)  # PyTorch divides alpha by n as well
    x = f.max_pool2d(x, 3, 2, ceil_mode=True)
    squares = f.avg_pool2d(x * x, 3, 1, 1, count_include_pad=True)
    x = x / (1 + 0.9 * squares) ** 0.75
    x = torch.tanh(f.conv2d(x, tensor["conv2"][0], padding=1, groups=2))
    x = f.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=True)
    x = f.linear(x.flatten(1), *tensor["fc1"])
    return f.linear(x, *tensor["fc2"]).numpy()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "small.caffemodel"
    path.write_bytes(encode("Net", small()))
    return path


def photographs(count=3):
    return np.random.default_rng(0).integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)


def scores(portable, images):
    trained = from_portable(portable, DeviceConfig("numpy")).trained
    [view] = portable.preprocessing.views(1)
    return trained.scores(images, view)


def test_scores_match_caffe(file):
    """BGR, mean before scale, alpha divided by n, overhanging windows, C H W."""
    images = photographs()
    wanted = in_caffe(images)
    portable = read(file)
    np.testing.assert_allclose(scores(portable, images), wanted, atol=2e-4)
    assert portable.preprocessing.recipe.squash
    assert portable.model.network.layers[0] == ("input", ChannelScale((0.5, 0.5, 0.5)))
    assert load(file, "numpy").class_names == tuple("01234")


def v1(net):
    """The same in Caffe's first format of layers."""
    names = {"ReLU": "RELU", "TanH": "TANH", "InnerProduct": "INNER_PRODUCT"}
    names |= {"SoftmaxWithLoss": "SOFTMAX_LOSS"}
    found = []
    for one in net["layer"]:
        one = {**one, "type": names.get(one["type"], one["type"].upper())}
        rates = one.pop("param", [])
        one["blobs_lr"] = [rate["lr_mult"] for rate in rates]
        one["weight_decay"] = [rate["decay_mult"] for rate in rates]
        found.append(one)
    return {"name": net["name"], "layers": found}


@pytest.mark.parametrize("old", [False, True])
def test_both_formats_give_one_model_with_and_without_the_prototxt(file, tmp_path, old):
    wanted = read(file)
    net = v1(small()) if old else small()
    weights = tmp_path / "other.caffemodel"
    weights.write_bytes(encode("Net", net, old=old))
    (tmp_path / "net.prototxt").write_text(f"# as text\n{prototxt(net)}")
    for definition in (None, tmp_path / "net.prototxt"):
        found = read(weights, definition=definition)
        assert found.model.network == wanted.model.network
        assert found.model.recipe == wanted.model.recipe
        for name, of in wanted.params.items():
            for key, value in of.items():
                np.testing.assert_array_equal(found.params[name][key], value)


def test_the_scale_of_a_definition_is_followed_in_training_from_scratch(tmp_path):
    (tmp_path / "net.prototxt").write_text(prototxt(small()))
    found = model_of(tmp_path / "net.prototxt", classes=7)
    assert found.network.layers[0] == ("input", ChannelScale((0.5, 0.5, 0.5)))


def test_a_scale_keeps_the_name_of_a_network_that_has_an_option_for_it(tmp_path):
    net = as_caffe(models.get("vgg-11", 9).network)
    net["layer"][0] |= {"type": "Data", "transform_param": {"crop_size": 224, "scale": 0.25}}
    (tmp_path / "net.prototxt").write_text(prototxt(net))
    found = model_of(tmp_path / "net.prototxt")
    assert (found.name, found.options["input_scale"]) == ("vgg-11", [0.25] * 3)


def test_rates_and_decays_of_single_layers_are_kept(file):
    recipe = read(file).model.recipe
    sgd, rates = SGD(recipe), Rates(0.1, 0.1 * recipe.bias_rate, 0.0)
    for name, times in (("conv1", 1.0), ("fc1", 2.0), ("fc2", 2.0)):
        assert sgd.rate(rates, name, "weight") == pytest.approx(0.1)
        assert sgd.rate(rates, name, "bias") == pytest.approx(0.1 * times)
    assert sgd.decay("conv1", "bias") == pytest.approx(recipe.weight_decay)
    assert sgd.decay("fc1", "bias") == 0
    assert sgd.decay("fc1", "weight") == pytest.approx(recipe.weight_decay)


def test_the_mean_image_is_cropped_like_the_image(file, tmp_path):
    """BGR planes, larger than the crop, like Caffe's for ILSVRC."""
    mean = np.random.default_rng(1).uniform(0, 255, (3, SIZE + 4, SIZE + 4))
    path = tmp_path / "mean.binaryproto"
    path.write_bytes(blob(mean[None], old=True))
    found = read(file, mean=path).preprocessing
    assert (found.recipe.resize, found.recipe.crop) == (SIZE + 4, SIZE)
    images = np.full((1, SIZE + 4, SIZE + 4, 3), 200, np.uint8)
    b = backends.get("numpy")
    seen = found.test_input(b, images, (1, 3, False), "float32")
    wanted = 200 - mean[::-1, 1 : 1 + SIZE, 3 : 3 + SIZE].transpose(1, 2, 0)
    np.testing.assert_allclose(seen[0], wanted, atol=1e-4)


def as_caffe(network):
    """The layers of a network here as Caffe describes them; no weights."""
    found, below = [{"name": "data", "type": "Input", "top": "data"}], "data"
    n, (h, w, c) = 10, network.input_shape
    found[0]["input_param"] = {"shape": {"dim": [n, c, h, w]}}
    for name, one in network.layers:
        match one:
            case Conv2D():
                of = {"num_output": one.channels, "kernel_size": one.kernel, "pad": one.pad}
                of |= {"stride": one.stride, "group": one.groups}
                more = {"type": "Convolution", "convolution_param": of}
            case Dense():
                more = {"type": "InnerProduct", "inner_product_param": {"num_output": one.units}}
            case ReLU():
                more = {"type": "ReLU"}
            case Dropout():
                more = {"type": "Dropout", "dropout_param": {"dropout_ratio": 1 - one.keep}}
            case MaxPool():
                of = {"pool": "MAX", "kernel_size": one.window, "stride": one.stride}
                more = {"type": "Pooling", "pooling_param": of}
            case ResponseNorm():
                of = {"local_size": one.n, "alpha": one.alpha * one.n, "beta": one.beta}
                more = {"type": "LRN", "lrn_param": {**of, "k": one.k}}
        found.append({"name": name, "bottom": below, "top": name, **more})
        below = name
    return {"name": "published", "layer": found}


@pytest.mark.parametrize("name", ["bvlc-alexnet", "caffenet", "vgg-11", "vgg-16", "vgg-19"])
def test_published_networks_are_recognised(name):
    network = models.get(name).network
    net = text.parse(prototxt(as_caffe(network)))
    found = model.described(net, {}, None)
    assert model.published(found.network).name == name
    assert not found.rgb
    # another order of layers is another network
    layers = as_caffe(network)
    layers["layer"][-1]["inner_product_param"] = {"num_output": 999}
    odd = model.described(text.parse(prototxt(layers)), {}, None).network
    assert model.published(odd).network.classes == 999
    bare = replace(odd, layers=odd.layers[:-2] + odd.layers[-1:])
    assert model.published(bare) is None


def with_rates(network, rates):
    """A .caffemodel of `network`: (rate, decay) of weight and bias by layer; else 1, 1 and 2, 0."""
    net, params = as_caffe(network), network.init(backends.get("numpy"), 3)
    for one in net["layer"]:
        if one["name"] in params:
            weight, bias = (params[one["name"]][name] for name in ("weight", "bias"))
            weight = weight.transpose(3, 2, 0, 1) if weight.ndim == 4 else weight.T
            pairs = rates.get(one["name"], ((1.0, 1.0), (2.0, 0.0)))
            one["blobs"] = [np.ascontiguousarray(weight), bias]
            one["param"] = [{"lr_mult": rate, "decay_mult": decay} for rate, decay in pairs]
    return encode("Net", net)


def test_without_any_rates_a_recognised_network_keeps_its_own():
    net = text.parse(prototxt(as_caffe(models.get("bvlc-alexnet").network)))
    recipe = model.untrained(model.described(net, {}, None)).recipe
    assert (recipe.bias_rate, recipe.bias_decay) == (2.0, 0.0)


@pytest.mark.parametrize("imported", [False, True])
def test_rates_of_a_recognised_network_are_followed_in_training(monkeypatch, tmp_path, imported):
    """Of the file and of the folder of its import; the named network has other rates."""
    variant = slim_variant(registry._VARIANTS["vgg-11"], 32)
    monkeypatch.setitem(registry._VARIANTS, "vgg-11", variant)
    path, still = tmp_path / "net.caffemodel", ((0.0, 1.0), (0.0, 0.0))
    path.write_bytes(with_rates(models.get("vgg-11", 3).network, {"conv2_1": still}))
    before = read(path)
    assert before.model.name == "vgg-11"
    if imported:
        from_portable(before, DeviceConfig("numpy")).save(tmp_path / "net.safetensors")
        path = tmp_path / "net.safetensors"
    options = {"out": tmp_path / "run", "backend": "numpy", "progress": False, "epochs": 1}
    data = Splits(Noise(3), Noise(3))
    after = train(data, initial=path, lr=0.01, report=False, **options).classifier
    recipe = after.model.recipe
    assert (after.model.name, recipe.bias_rate, recipe.bias_decay) == ("vgg-11", 2.0, 0.0)
    same = {
        (layer, name)
        for layer, of in before.params.items()
        for name, value in of.items()
        if np.array_equal(value, after.params[layer][name])
    }
    assert same == {("conv2_1", "weight"), ("conv2_1", "bias")}


def changed(change):
    net = small()
    named = {one["name"]: one for one in net["layer"]}
    change(net, named)
    return encode("Net", net)


def _transform(net):
    return net["layer"][0]["transform_param"]


def _no_data(net, of):
    del net["layer"][0]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda net, of: of["conv1"].update(type="Deconvolution"), "'conv1'.*'deconvolution'"),
        (lambda net, of: of["conv2"].update(bottom=["pool1", "within"]), "'conv2'.*only layer"),
        (lambda net, of: of["relu1"].update(relu_param={"negative_slope": 0.1}), "slope of 0.1"),
        (lambda net, of: of["conv1"]["convolution_param"].update(dilation=2), "dilated"),
        (lambda net, of: of["conv1"]["convolution_param"].update(kernel_size=[3, 5]), "differs"),
        (lambda net, of: of["conv1"]["convolution_param"].update(pad_h=1), "pad differs"),
        (lambda net, of: net["layer"].append({**of["fc2"], "name": "fc3"}), "'fc3'.*comes after"),
        (lambda net, of: of["conv1"].update(blobs=[]), "'conv1' has 0 blobs"),
        (lambda net, of: of["fc2"]["blobs"].reverse(), "'fc2' has .* weights"),
        (lambda net, of: of["fc1"]["blobs"][1].fill(np.nan), "not finite"),
        (lambda net, of: of["pool1"]["pooling_param"].update(pool="STOCHASTIC"), "STOCHASTIC"),
        (lambda net, of: of["pool1"]["pooling_param"].update(kernel_size=4000), "kernel_size"),
        (lambda net, of: of["norm1"]["lrn_param"].update(local_size=4), "n must be odd"),
        (lambda net, of: net.update(layer=[]), "no layers"),
        (lambda net, of: _transform(net).update(scale=np.inf), "scale is inf"),
        (_no_data, "no common image size"),
    ],
)
def test_unsupported_layers_are_refused_by_name(tmp_path, change, sentence):
    path = tmp_path / "other.caffemodel"
    path.write_bytes(changed(change))
    with pytest.raises(InputError, match=sentence) as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_a_missing_mean_is_requested(tmp_path):
    net = small()
    net["layer"][0]["transform_param"] = {"crop_size": SIZE, "mean_file": "mean.binaryproto"}
    path = tmp_path / "other.caffemodel"
    path.write_bytes(encode("Net", net))
    with pytest.raises(InputError, match="--mean"):
        read(path)


def test_the_colour_order_can_be_given(file):
    """BGR, unless the file is for CIFAR-10 or the user says otherwise."""
    blue, red = read(file).params["conv1"], read(file, colours="RGB").params["conv1"]
    np.testing.assert_array_equal(blue["weight"], red["weight"][:, :, ::-1])
    assert not np.array_equal(blue["weight"], red["weight"])
    with pytest.raises(InputError, match='"RGB" or "BGR"'):
        read(file, colours="GBR")


def test_only_cifars_networks_of_32_pixels_take_rgb(tmp_path):
    """The size alone tells nothing; a definition without a name has its weights' one."""

    def first(net, **options):
        path = tmp_path / "other.caffemodel"
        path.write_bytes(encode("Net", net))
        return read(path, **options).params["conv1"]["weight"]

    def sized(name):
        net = {**small(), "name": name}
        net["layer"][0]["transform_param"] = {"crop_size": 32, "mean_value": [3.0, 2.0, 1.0]}
        dense = next(one for one in net["layer"] if one["name"] == "fc1")
        dense["blobs"] = [grid((7, 100), 1), grid((7,), 2)]
        return net

    red = first(sized("small"), colours="RGB")
    np.testing.assert_array_equal(first(sized("small")), red[:, :, ::-1])
    np.testing.assert_array_equal(first(sized("CIFAR10_small")), red)
    (tmp_path / "net.prototxt").write_text(prototxt({"layer": sized("")["layer"]}))
    found = first(sized("CIFAR10_small"), definition=tmp_path / "net.prototxt")
    np.testing.assert_array_equal(found, red)


def test_a_dense_first_layer_must_take_rgb(tmp_path):
    net = small()
    data, dense = net["layer"][0], next(one for one in net["layer"] if one["name"] == "fc2")
    dense |= {"bottom": "data", "blobs": [grid((CLASSES, 3 * SIZE**2), 0), grid((CLASSES,), 1)]}
    path = tmp_path / "other.caffemodel"
    path.write_bytes(encode("Net", {**net, "layer": [data, dense]}))
    with pytest.raises(InputError, match=r"'fc2'.* if it takes RGB images, give --colours RGB"):
        read(path)
    assert read(path, colours="RGB").params


def test_a_mean_is_measured_as_the_network_sees_images(file, tmp_path):
    """Both sides resized: the left third of a wide image is not cropped away."""
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, :20] = 240
    for name in ("a/1", "a/2", "b/1", "b/2"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(wide).save(tmp_path / "images" / f"{name}.png")
    mean = read(file, mean=tmp_path / "images").preprocessing.mean
    assert mean.shape == (SIZE, SIZE, 3)
    np.testing.assert_allclose(mean[:, :3], 240, atol=12)
    np.testing.assert_allclose(mean[:, -6:], 0, atol=12)


def test_a_referenced_file_must_exist(file, tmp_path):
    for what in ("definition", "mean"):
        with pytest.raises(FileNotFoundError, match="no file or folder"):
            read(file, **{what: tmp_path / "missing"})


# -------------------------------------------------------------------------- damaged and hostile


FILES = {
    ".caffemodel": encode("Net", small()),
    ".solverstate": encode("SolverState", {"iter": 3, "history": [grid((2, 2), 0)]}),
    ".binaryproto": blob(grid((3, SIZE, SIZE), 0)),
    ".prototxt": prototxt(small()).encode(),
}


def reader(folder, suffix):
    """Reads a file with this suffix, with the others that it needs in its folder."""
    (folder / "odd.caffemodel").touch()
    good = folder / "good.caffemodel"
    good.write_bytes(FILES[".caffemodel"])
    if suffix == ".binaryproto":
        return mean_image
    if suffix == ".prototxt":
        return lambda path: read(good, definition=path)
    return read


@COUNTS
@pytest.mark.parametrize("suffix", FILES)
def test_damage_gives_a_one_sentence_error(tmp_path, suffix, count):
    path, attempt = tmp_path / f"odd{suffix}", reader(tmp_path, suffix)
    path.write_bytes(FILES[suffix])
    assert len(refusals(path, attempt, count)) > 0.15 * count


@settings(max_examples=30)
@given(content=st.binary(max_size=60))
def test_noise_gives_a_one_sentence_error(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp()
    for suffix in FILES:
        attempt = reader(folder, suffix)
        (folder / f"odd{suffix}").write_bytes(content)
        said = ""
        try:  # an empty prototxt is harmless
            attempt(folder / f"odd{suffix}")
        except InputError as error:
            said = str(error)
        assert "\n" not in said
        assert len(said) < 600


TWO_GIB = b"\xff\xff\xff\xff\x07"


@pytest.mark.parametrize(
    "content",
    [
        b"\xa2\x06" + TWO_GIB,  # a layer
        b"\x12" + TWO_GIB + b"\0" * 50,  # of the first format
        b"\xa2\x06\x00" * 100_000,  # empty layers
        b"\xa2\x06\x0b\x3a\x09\x08\xff\xff\xff\x07\x10\xff\xff\xff\x07",  # a blob's sizes
        b"\x0a" * 100_000,
        b"\x80" * 100_000,
    ],
    ids=["length", "V1", "layers", "sizes", "names", "varint"],
)
def test_claimed_sizes_take_no_memory(tmp_path, content):
    import tracemalloc

    path = tmp_path / "odd.caffemodel"
    path.write_bytes(content)
    tracemalloc.start()
    with pytest.raises(InputError):
        read(path)
    assert tracemalloc.get_traced_memory()[1] < 20 << 20
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("layer { name: 'a'", "line 1: expected the name of a field"),
        ("a: {{", "line 1"),
        ("a: 1\nb 2", "line 2: expected a colon"),
        ("a: [1, 2", "line 1"),
        ("a { " * 40, "too deep"),
        ("a: $", "unexpected character"),
        ("#" * 5000 + "\n$", "line 2: unexpected character"),
        ("9" * 5000, "line 1"),
    ],
)
def test_a_damaged_prototxt_is_named_by_line(content, sentence):
    with pytest.raises(ValueError, match=sentence):
        text.parse(content)


def test_the_text_format():
    found = text.parse(
        "a: 1 # one\nb: -2.5e1, c: 'x' \"y\";\nd { e: WORD f: [1, 0x10] } d: < e: 3f >\nt: true"
    )
    assert found == {
        "a": [1],
        "b": [-25.0],
        "c": ["xy"],
        "d": [{"e": ["WORD"], "f": [1, 16]}, {"e": [3.0]}],
        "t": [1],
    }
