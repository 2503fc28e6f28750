"""ONNX: exported files give our scores in ONNX Runtime and can be imported; and other graphs."""

import importlib
import tracemalloc
import warnings
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
from helpers.portables import drawn
from helpers.slim import slim
from helpers.tiny import register_tiny, tiny

import minialex
from minialex import backends, losses, models
from minialex.cli import main
from minialex.errors import InputError
from minialex.exchange.onnx import graph
from minialex.exchange.onnx.chain import read_chain
from minialex.exchange.onnx.file import read as read_graph
from minialex.exchange.read import read
from minialex.exchange.same_network import same_function
from minialex.exchange.write import write
from minialex.inference.classifier import from_portable
from minialex.layers import (
    AveragePool,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    MaxPool,
    ReLU,
    Sigmoid,
    Tanh,
)
from minialex.network import Network
from minialex.parallel import DeviceConfig

onnx = pytest.importorskip("onnx", reason="the onnx package is not installed")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402


def runtime(path, name, x):
    """ONNX Runtime's last output."""
    ort = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {name: x})[0]


def small(name):
    """A named network with few channels, and a smaller input size if it takes one."""
    sizes = {"vgg-11": 64, "vgg-16": 64, "vgg-19": 64}
    options = {"input_size": sizes[name]} if name in sizes else {}
    network = models.get(name, 6, **options).network
    return slim(network, 16 if network.input_shape[0] > 200 else 8)


RGB = [name for name in models.names() if models.get(name).network.input_shape[2] == 3]
EDGES = Network(
    (
        ("conv1", Conv2D(6, 5, stride=3, pad=1, rounding="ceil")),
        ("tanh1", Tanh()),
        ("sigmoid1", Sigmoid()),
        ("mean1", AveragePool(3, 2, pad=1, rounding="ceil", count_pads=True)),
        ("conv2", Conv2D(8, 3, pad=2, groups=2)),
        ("relu2", ReLU()),
        ("mean2", AveragePool(3, 2, pad=1)),
        ("pool3", MaxPool(2, 2, pad=1, rounding="ceil")),
        ("drop4", Dropout(0.8)),
        ("fc4", Dense(5)),
    ),
    (38, 38, 3),
)


@pytest.mark.parametrize("name", [*RGB, "edges"])
def test_onnx_runtime_gives_our_scores(name, tmp_path, photographs, our_scores, close):
    """With and without preprocessing in the graph; the re-imported graph gives the same scores."""
    network = EDGES if name == "edges" else small(name)
    size = network.input_shape[0]
    portable, images = drawn(network, resize=size + 6), photographs(size, 2)
    ours = our_scores(portable, images)
    mean = portable.preprocessing.mean[3 : 3 + size, 3 : 3 + size]
    centred = np.float32(images - mean).transpose(0, 3, 1, 2)
    for prepared, inputs in ((False, ("input", centred)), (True, ("images", images))):
        path = tmp_path / "net.onnx"
        write(portable, path, with_preprocessing=prepared)
        onnx.checker.check_model(onnx.load(path))
        close(runtime(path, *inputs), ours)
    again = read(path)
    close(our_scores(again, images), ours)
    assert again.preprocessing.recipe == portable.preprocessing.recipe


def test_batch_norm_elsewhere_than_after_weights_is_refused(tmp_path):
    layers = (("conv1", Conv2D(4, 3)), ("relu1", ReLU()), ("bn1", BatchNorm()), ("fc2", Dense(3)))
    with pytest.raises(InputError, match="bn1, a batch normalisation, cannot be exported"):
        write(drawn(Network(layers, (9, 8, 3))), tmp_path / "net.onnx")


@pytest.mark.parametrize("name", ["alexnet", "alexnet-2012", "vgg-11", "cifar10"])
def test_export_import_export_gives_the_same_bits(name, tmp_path):
    """From the first import on: the paper's dropout has become PyTorch's, with a factor of 1/2."""
    portable = drawn(small(name))
    write(portable, tmp_path / "a.onnx")
    first = read(tmp_path / "a.onnx")
    write(first, tmp_path / "b.onnx")
    again = read(tmp_path / "b.onnx")
    assert again.model == first.model
    for layer, of in first.params.items():
        for what, value in of.items():
            np.testing.assert_array_equal(again.params[layer][what], value)
    np.testing.assert_array_equal(again.preprocessing.mean, portable.preprocessing.mean)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_weights_are_copied_once_on_export(tmp_path):
    """Half a file's size on top of the converted weights is too much."""
    portable = drawn(Network((("fc1", Dense(1500)), ("fc2", Dense(5))), (16, 16, 3)))
    write(portable, tmp_path / "net.onnx")  # imports what it needs
    tracemalloc.start()
    try:
        write(portable, tmp_path / "net.onnx")
        assert tracemalloc.get_traced_memory()[1] < 1.5 * (tmp_path / "net.onnx").stat().st_size
    finally:
        tracemalloc.stop()


def test_a_named_network_and_its_classes_are_restored(tmp_path):
    model = models.get("vgg-11-64", 4, width=2, hidden=8)
    portable = drawn(model.network, 72, model=model)
    portable = replace(
        portable, class_names=("a", "b", "ü", "d"), class_ids=("n1", "n2", "n3", "n4")
    )
    for suffix in ("onnx", "safetensors"):
        path = tmp_path / f"net.{suffix}"
        write(portable, path)
        again = read(path)
        assert again.model.network == models.get(again.model.name, 4, **again.model.options).network
        assert (again.class_names, again.class_ids) == (portable.class_names, portable.class_ids)
    found = onnx.load(tmp_path / "net.onnx").metadata_props
    assert '"a", "b"' in next(one.value for one in found if one.key == "class_names")


@pytest.mark.parametrize("suffix", ["onnx", "pth", "safetensors"])
def test_a_named_network_keeps_the_files_description(suffix, tmp_path, monkeypatch):
    """--as with a file that we wrote; batch normalisation is folded, and its network unnamed."""
    register_tiny(monkeypatch)
    path = tmp_path / f"net.{suffix}"
    for name, options in (("vgg-11-64", {"width": 2, "hidden": 8}), ("tiny-bn", {})):
        model = models.get(name, 3, **options)
        crop = model.network.input_shape[0]
        model = replace(model, recipe=replace(model.recipe, resize=crop + 8, crop=crop))
        portable = drawn(model.network, model=model)
        write(replace(portable, class_names=("a", "b", "c")), path)
        expected, found = read(path), read(path, name)
        assert (found.model, found.class_names) == (expected.model, ("a", "b", "c"))
        assert found.notes == ()
        np.testing.assert_array_equal(found.preprocessing.mean, portable.preprocessing.mean)
        for layer, of in expected.params.items():
            np.testing.assert_array_equal(found.params[layer]["weight"], of["weight"])
        with pytest.raises(InputError, match="a network other than alexnet-64: leave out --as"):
            read(path, "alexnet-64")


def test_a_description_that_does_not_fit_the_graph_is_not_used_silently(tmp_path):
    write(drawn(tiny(3), 16), tmp_path / "net.onnx")
    changed = onnx.load(tmp_path / "net.onnx")
    next(one for one in changed.graph.node if one.op_type == "Relu").op_type = "Tanh"
    (tmp_path / "net.onnx").write_bytes(changed.SerializeToString())
    first, second = read(tmp_path / "net.onnx").notes
    assert "description in the file is not used: the graph was changed" in first
    assert "Caffe's (BGR, minus ImageNet's mean), as the graph has none" in second


def without_description(path):
    """The same file as if another program had written it."""
    changed = onnx.load(path)
    del changed.metadata_props[:]
    path.write_bytes(changed.SerializeToString())


@pytest.mark.parametrize("name", ["tiny", "tiny-bn"])
def test_a_named_network_in_the_form_of_other_programs(
    name, tmp_path, monkeypatch, photographs, our_scores, close
):
    """--as NAME: dropout that scales in training, and batch normalisation in the weights."""
    register_tiny(monkeypatch)
    network = models.get(name, 3).network
    portable = drawn(network)
    write(portable, tmp_path / "net.onnx", with_preprocessing=True)
    without_description(tmp_path / "net.onnx")
    images = photographs(network.input_shape[0])
    close(our_scores(read(tmp_path / "net.onnx", name), images), our_scores(portable, images))


@pytest.mark.parametrize("name", RGB)
def test_every_network_can_be_named(name):
    """Each is recognised in the form in which it is exported; the largest need no weights here."""
    network = models.get(name, 6).network
    layers = [
        (each, replace(layer, inverted=True) if isinstance(layer, Dropout) else layer)
        for each, layer in network.layers
        if not isinstance(layer, BatchNorm)
    ]
    standard = replace(network, layers=tuple(layers))
    found = graph._model(Path("net.onnx"), standard, name, {})
    assert found.network == standard
    assert found.name == (name if standard == network else "layers")


def test_from_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from_portable(drawn(tiny(3), 16), DeviceConfig("numpy")).save("w.safetensors")
    assert main.main(["export", "w.safetensors", "w.onnx", "--with-preprocessing"]) == 0
    assert "uint8 N 12 12 3" in capsys.readouterr().out
    assert main.main(["import", "w.onnx", "--out", "in"]) == 0
    image = np.random.default_rng(0).integers(0, 255, (80, 90, 3), dtype=np.uint8)
    expected = minialex.load("w.safetensors", backend="numpy").probabilities(image)
    for path in ("in", "w.onnx"):
        found = minialex.load(path, backend="numpy").probabilities(image)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


# ------------------------------------------------------------------------------------ other graphs

# onnx's own single-node cases, by operator: the file of its cases, and which are refused, and why.
# Add, Cast, Div, Mul, Reshape, Squeeze, Sub and Transpose have no cases on images: they are read as
# bias, preprocessing and flattening, which other tests here cover.
_ANOTHER_RANK = "not N C H W"
CASES = {
    "AveragePool": (
        "averagepool",
        {
            "*_[13]d_*": _ANOTHER_RANK,
            "*_2d_same_*": "which is not supported",
            "*_dilations": "has dilations",
        },
    ),
    "BatchNormalization": (
        "batch_normalization",
        {"*_training_mode": "uses batch statistics", "*": "does not follow a layer with weights"},
    ),
    "Conv": ("conv", {"*_asymmetric_padding": "top and left must be equal"}),
    "Dropout": ("dropout", {"*_mask*": "'z', which is used", "*_training_*": "at test time"}),
    "Flatten": (
        "flatten",
        {
            "test_flatten_axis[023]": "flattens from axis",
            "*_negative_axis[124]": "flattens from axis",
        },
    ),
    "Gemm": (
        "gemm",
        {
            "*_matrix_bias": "has a bias of",
            "*_transposeA": "does not multiply its input",
            "*_all_attributes": "does not multiply its input",
        },
    ),
    "GlobalAveragePool": ("globalaveragepool", {}),
    "GlobalMaxPool": ("globalmaxpool", {}),
    "Identity": ("identity", {"*_sequence": _ANOTHER_RANK, "*_opt": _ANOTHER_RANK}),
    "LRN": ("lrn", {}),
    "LogSoftmax": ("logsoftmax", {"*axis*": _ANOTHER_RANK}),
    "MatMul": (
        "matmul",
        {
            "*_4d*": "does not multiply by a matrix",
            "*_bcast": "does not multiply by a matrix",
            "*_[13]d*": _ANOTHER_RANK,
        },
    ),
    "MaxPool": (
        "maxpool",
        {
            "*_argmax_*": "also outputs indices",
            "*_[13]d_*": _ANOTHER_RANK,
            "*_2d_same_*": "which is not supported",
            "*_dilations": "has dilations",
        },
    ),
    "Relu": ("relu", {}),
    "Softmax": ("softmax", {"*axis*": _ANOTHER_RANK}),
    "Sigmoid": ("sigmoid", {}),
    "Tanh": ("tanh", {}),
}


ELEMENTWISE = ("Relu", "Sigmoid", "Tanh", "Dropout")  # whose cases may have fewer dimensions


@pytest.mark.parametrize(
    "operator",  # onnx takes seconds to compute the cases of average pooling
    [pytest.param(one, marks=[pytest.mark.slow] * (one == "AveragePool")) for one in CASES],
)
def test_onnx_backend_test_cases(operator, tmp_path):
    """Equal to the expected output, or refused for the reason that is listed here."""
    file, refused = CASES[operator]
    for name, case in node_cases(operator, file).items():
        path = tmp_path / "case.onnx"
        x, expected = with_constants(case, path)
        reason = next((refused[names] for names in refused if fnmatch(name, names)), None)
        if reason is None:
            found = outputs(path, x, expected)
            np.testing.assert_allclose(found, expected, rtol=case.rtol, atol=1e-6, err_msg=name)
        else:
            with pytest.raises(InputError, match=reason):
                outputs(path, x, expected)


def test_onnx_backend_test_cases_of_the_loss():
    """The mean over images, without weights: the cases that our loss supports."""
    cases = node_cases("SoftmaxCrossEntropyLoss", "softmax_cross_entropy_loss")
    wanted = ("test_sce_mean", "test_sce_mean_log_prob")
    for name in wanted:
        [((scores, labels), (expected, *_))] = cases[name].data_sets
        b = backends.get("numpy")
        loss, _ = losses.get("softmax", 1.0)(b, b.asarray(scores), b.asarray(labels))
        np.testing.assert_allclose(float(loss), float(expected), rtol=1e-5)


def node_cases(operator, file):
    """onnx's single-node cases of an operator, by name."""
    node = importlib.import_module("onnx.backend.test.case.node")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module(f"onnx.backend.test.case.node.{file}")
    cases = [c for c in node._NodeTestCases if len(c.model.graph.node) == 1]
    found = {c.name: c for c in cases if c.model.graph.node[0].op_type == operator}
    assert found
    return found


def with_constants(case, path):
    """Write a case's model with all inputs but the first as constants; -> x, the output."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    [(given, expected)] = case.data_sets
    shape = model.graph.input[0].type.tensor_type.shape
    if model.graph.node[0].op_type in ELEMENTWISE and len(shape.dim) in (1, 3):
        dims = [1, *(one.dim_value for one in shape.dim)]  # one image
        info = helper.make_tensor_value_info(model.graph.input[0].name, TensorProto.FLOAT, dims)
        model.graph.input[0].CopyFrom(info)
        given = [given[0][None], *given[1:]]
    for value, info in list(zip(given, model.graph.input, strict=True))[1:]:
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), info.name))
    path.write_bytes(model.SerializeToString())
    return (given[0] if given else None), expected[0]


def outputs(path, x, expected):
    """The output of a file's chain for x, in ONNX's layout."""
    chain = read_chain(read_graph(path))
    network, params = Network(tuple(chain.layers), chain.input_shape), chain.params()
    y = np.asarray(x, np.float32)
    if y.ndim == 4:
        y = y.transpose(0, 2, 3, 1)
    if chain.mean is not None:
        y = y - chain.mean
    if chain.scale is not None:
        y = y * chain.scale
    y = network.infer(backends.get("numpy"), params, np.ascontiguousarray(y, np.float32))
    if y.ndim == 4:
        y = y.transpose(0, 3, 1, 2)
    if chain.ended:
        y = y - y.max(axis=1, keepdims=True)
        y = y - np.log(np.exp(y).sum(axis=1, keepdims=True))
        y = np.exp(y) if chain.ended.startswith("Softmax") else y
    return y.reshape(expected.shape)


def chain_file(path, *nodes, shape=("N", 3, 8, 8), kind=TensorProto.FLOAT, **constants):
    """A file with these nodes, whose last output is the scores."""
    inputs = [helper.make_tensor_value_info("x", kind, shape)]
    outputs = [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)]
    tensors = [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()]
    graph = helper.make_graph(nodes, "test", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


node = helper.make_node


def test_a_typical_exported_graph(tmp_path, photographs, our_scores, close):
    """uint8 N H W C, mean and deviation, BatchNormalization, MatMul and Add."""
    rng = np.random.default_rng(0)

    def drawn(*shape):
        return rng.normal(0, 0.3, shape).astype(np.float32)

    path = chain_file(
        tmp_path / "net.onnx",
        node("Cast", ["x"], ["float"], to=1),
        node("Div", ["float", "full"], ["unit"]),
        node("Transpose", ["unit"], ["planes"], perm=[0, 3, 1, 2]),
        node("Sub", ["planes", "mean"], ["centred"]),
        node("Div", ["centred", "deviation"], ["input"]),
        node("Conv", ["input", "w1"], ["c1"], pads=[1, 1, 1, 1], strides=[2, 2]),
        node("BatchNormalization", ["c1", "g", "b", "m", "v"], ["n1"], epsilon=0.01),
        node("Relu", ["n1"], ["r1"]),
        node("Dropout", ["r1"], ["d1"]),
        node("Reshape", ["d1", "flat"], ["f1"]),
        node("MatMul", ["f1", "w2"], ["m2"]),
        node("Add", ["m2", "b2"], ["scores"]),
        shape=("N", 8, 8, 3),
        kind=TensorProto.UINT8,
        full=np.float32(255),
        mean=drawn(3, 1, 1) + 0.5,
        deviation=drawn(1, 3, 1, 1) + 1,
        w1=drawn(5, 3, 3, 3),
        g=drawn(5),
        b=drawn(5),
        m=drawn(5),
        v=np.abs(drawn(5)),
        flat=np.array([-1, 80]),
        w2=drawn(80, 4),
        b2=drawn(4),
    )
    images = photographs(8)
    portable = read(path)
    assert portable.preprocessing.recipe.resize == 8
    close(our_scores(portable, images), runtime(path, "x", images), 2e-5)


@pytest.mark.slow  # PyTorch's exporter takes seconds to import
@pytest.mark.filterwarnings("ignore")
def test_a_graph_exported_by_pytorch(tmp_path, photographs, our_scores, close):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from helpers import torchvision_like as theirs

    net = theirs.vgg("vgg11", 7, width=2, hidden=12, side=2, batch_norm=True)
    net, path = theirs.random_weights(net), tmp_path / "net.onnx"
    try:
        torch.onnx.export(net, torch.zeros(1, 3, 64, 64), path, dynamo=False)
    except TypeError:
        pytest.skip("this version of PyTorch exports with another package")
    images = photographs(64)
    portable = read(path)
    assert "torchvision's" in portable.notes[0]
    close(our_scores(portable, images), theirs.scores(net, images))


CONV = node("Conv", ["x", "w"], ["c"])
W, M = np.ones((4, 3, 3, 3), np.float32), np.ones((144, 5), np.float32)
DENSE = (node("Flatten", ["c"], ["f"]), node("MatMul", ["f", "m"], ["y"]))
HEAD = {"w": W, "m": M}


@pytest.mark.parametrize(
    ("nodes", "constants", "sentence"),
    [
        (
            [CONV, node("Elu", ["c"], ["y"], name="gate")],
            HEAD,
            "'gate' .Elu. is not",
        ),
        ([CONV, node("Add", ["c", "c"], ["y"], name="two")], HEAD, "'two' .Add. joins two"),
        ([CONV, node("Mul", ["c", "c"], ["y"], name="sq")], HEAD, "'sq' .* by itself"),
        (
            [CONV, node("Relu", ["c"], ["r"]), node("Add", ["c", "r"], ["y"])],
            HEAD,
            "'y' .* joins",
        ),
        ([CONV, node("Relu", ["c"], ["r"]), node("Tanh", ["c"], ["y"])], HEAD, "uses 'c' again"),
        ([node("Relu", ["z"], ["y"])], HEAD, "needs 'z', which no earlier node"),
        ([CONV], HEAD, "a dense layer at the end"),
        ([CONV, node("MatMul", ["c", "m"], ["y"])], HEAD, "a Flatten must come before"),
        ([CONV, *DENSE[:1], node("Conv", ["f", "w"], ["y"])], HEAD, "not a convolution of images"),
        (
            [CONV, DENSE[0], node("Add", ["f", "b"], ["g"]), node("MatMul", ["g", "m"], ["y"])],
            {**HEAD, "b": np.ones((4, 1, 1), np.float32)},
            "is not the bias",
        ),
        ([CONV, *DENSE], {**HEAD, "m": M[:9]}, "does not fit"),
        ([CONV, *DENSE], {**HEAD, "w": W[:, :2]}, "has 1 groups but a weight"),
        ([node("Conv", ["x", "w"], ["c"], strides=[1, 2]), *DENSE], HEAD, "is not square"),
        ([node("Conv", ["x", "w"], ["c"], pads=[-1] * 4), *DENSE], HEAD, "has the padding"),
        ([node("LRN", ["x"], ["c"], size=4), *DENSE], HEAD, "must be odd"),
        ([node("Relu", ["x"], ["c"], domain="mine"), *DENSE], HEAD, "of the unknown domain 'mine'"),
    ],
)
def test_unsupported_graphs_are_refused_naming_the_node(nodes, constants, sentence, tmp_path):
    with pytest.raises(InputError, match=sentence):
        read(chain_file(tmp_path / "net.onnx", *nodes, **constants))


LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
needs_light = pytest.mark.skipif(
    not (LIGHT / "light_bvlc_alexnet.onnx").exists(), reason="this version of onnx has no models"
)


@needs_light
def test_the_model_zoos_alexnet():
    """The package's model has constant weights, its own input and its output."""
    expected = onnx.TensorProto()
    expected.ParseFromString((LIGHT / "light_bvlc_alexnet_output_0.pb").read_bytes())
    chain = read_chain(read_graph(LIGHT / "light_bvlc_alexnet.onnx"))
    x = np.arange(3 * 224 * 224, dtype=np.float32).reshape(1, 3, 224, 224) / (3 * 224 * 224)
    x = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    y = chain.network().infer(backends.get("numpy"), chain.params(), x)
    assert y.max() > 1e6  # it passed through all layers, with weights of 0.02
    p = np.exp(y - y.max()) / np.exp(y - y.max()).sum()
    np.testing.assert_allclose(p, numpy_helper.to_array(expected), rtol=1e-3)


@needs_light
def test_the_model_zoos_other_networks():
    chain = read_chain(read_graph(LIGHT / "light_vgg19.onnx"))
    assert same_function(chain.network(), models.get("vgg-19", inverted=True).network)
    assert read_chain(read_graph(LIGHT / "light_zfnet512.onnx")).shape == (1000,)
    for name in ("resnet50", "squeezenet", "inception_v1", "shufflenet", "densenet121"):
        with pytest.raises(InputError, match=r"the node '\w+' \(\w+\)"):
            read(LIGHT / f"light_{name}.onnx")


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        (("N", 3, 8, 12), "8 x 12 pixels and 3 channels: only square RGB"),
        (("N", 1, 8, 8), "8 x 8 pixels and 1 channels: only square RGB"),
        (("N", 3, 60_000, 60_000), "too large"),
    ],
)
def test_inputs_that_no_photograph_has_are_refused(tmp_path, shape, sentence):
    channels = shape[1]
    large = max(shape[2:]) > 100
    pooled = [node("GlobalAveragePool", ["x"], ["p"])] if large else [node("Relu", ["x"], ["p"])]
    nodes = [*pooled, node("Flatten", ["p"], ["f"]), node("Gemm", ["f", "w"], ["y"])]
    w = np.ones((channels * (1 if large else shape[2] * shape[3]), 5), np.float32)
    with pytest.raises(InputError, match=sentence):
        read(chain_file(tmp_path / "net.onnx", *nodes, shape=shape, w=w))


def test_a_graph_that_normalises_images_of_0_to_1(tmp_path):
    """As torchvision's transforms do after dividing by 255, which is not in the graph."""
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    m, s = (np.array(v, np.float32).reshape(1, 3, 1, 1) for v in (mean, std))
    rng = np.random.default_rng(0)
    w = rng.normal(size=(5, 3, 3, 3)).astype(np.float32)
    path = chain_file(
        tmp_path / "net.onnx",
        node("Sub", ["x", "m"], ["c"]),
        node("Div", ["c", "s"], ["d"]),
        node("Conv", ["d", "w"], ["e"]),
        node("GlobalAveragePool", ["e"], ["p"]),
        node("Flatten", ["p"], ["y0"]),
        node("Gemm", ["y0", "i"], ["y"]),
        m=m,
        s=s,
        w=w,
        i=np.eye(5, dtype=np.float32),
    )
    found = from_portable(read(path), DeviceConfig("numpy"))
    x = rng.integers(0, 256, (4, 8, 8, 3), np.uint8)
    theirs = runtime(path, "x", np.float32(x.transpose(0, 3, 1, 2)) / 255)
    [view] = found.preprocessing.views(1)
    np.testing.assert_allclose(found.trained.scores(x, view), theirs, rtol=1e-3, atol=1e-4)


def test_layers_may_be_called_like_the_graphs_own_names(tmp_path):
    network = Network(
        (("input", Conv2D(4, 3)), ("scores", ReLU()), ("values", Dense(3)), ("fc", Dense(5))),
        (8, 8, 3),
    )
    made = drawn(network)
    for with_preprocessing in (True, False):
        path = tmp_path / f"{with_preprocessing}.onnx"
        write(made, path, with_preprocessing=with_preprocessing)
        onnx.checker.check_model(str(path), full_check=True)


def test_one_external_matrix_counts_once(tmp_path):
    """However many layers use it: together they may not be larger than the files."""
    count, size = 40, 64
    (tmp_path / "w.bin").write_bytes(np.zeros((size, size), np.float32).tobytes())
    nodes = [node("GlobalAveragePool", ["x"], ["p"]), node("Flatten", ["p"], ["f0"])]
    nodes += [node("Gemm", [f"f{i}", f"w{i}"], [f"f{i + 1}"]) for i in range(count)]
    path = chain_file(tmp_path / "net.onnx", *nodes, shape=("N", size, 8, 8))
    model = onnx.load(str(path))
    for i in range(count):
        tensor = model.graph.initializer.add(name=f"w{i}", data_type=1, dims=(size, size))
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="w.bin")
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="reuses weights"):
        read(path)
