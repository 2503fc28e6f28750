"""Caffe's BatchNorm, Scale and Bias, in the weights before them; and its Sigmoid."""

import numpy as np
import pytest
from helpers.caffe_files import encode, prototxt
from helpers.damage import COUNTS, refusals
from helpers.strategies import grid

from minialex.errors import InputError
from minialex.exchange.definitions import model_of
from minialex.exchange.read import read
from minialex.inference.classifier import from_portable
from minialex.parallel import DeviceConfig

SIZE, CLASSES = 13, 5
EPSILON = 0.01


def layer(name, kind, bottom, top=None, **more):
    return {"name": name, "type": kind, "bottom": bottom, "top": top or name, **more}


def norm_blobs(channels, seed):
    """Sums of five batches' means and variances, and five."""
    return [grid((channels,), seed), 1 + grid((channels,), seed + 1) ** 2, np.float32([5.0])]


BLOBS = {
    "conv1": [grid((6, 3, 3, 3), 0)],
    "bn1": norm_blobs(6, 1),
    "scale1": [grid((6,), 3) - 0.5, grid((6,), 4)],
    "conv2": [grid((4, 3, 3, 3), 5), grid((4,), 6)],
    "bn2": norm_blobs(4, 7),
    "conv3": [grid((4, 4, 3, 3), 9), grid((4,), 10)],
    "bn3": norm_blobs(4, 11),
    "scale3": [grid((4,), 13)],
    "fc1": [grid((7, 4), 14), grid((7,), 15)],
    "bias1": [grid((7,), 16)],
    "bn4": norm_blobs(7, 17),
    "fc2": [grid((CLASSES, 7), 19), grid((CLASSES,), 20)],
}


def net():
    """As in cifar10_full_sigmoid_train_test_bn, some after pooling; and after a dense layer."""
    conv1 = {"num_output": 6, "kernel_size": 3, "stride": 2, "pad": 1, "bias_term": 0}
    conv2 = {"num_output": 4, "kernel_size": 3, "group": 2, "pad": 1}
    conv3 = {"num_output": 4, "kernel_size": 3, "pad": 1}
    bn = {"batch_norm_param": {"eps": EPSILON}}
    pool = {"kernel_size": 3, "stride": 2}
    layers = [
        {"name": "images", "type": "Data", "top": ["data", "label"]}
        | {"transform_param": {"crop_size": SIZE, "mean_value": [3.0, 2.0, 1.0], "scale": 0.01}},
        layer("conv1", "Convolution", "data", convolution_param=conv1),
        layer("bn1", "BatchNorm", "conv1", "conv1", **bn),
        layer("scale1", "Scale", "conv1", "conv1", scale_param={"bias_term": 1}),
        layer("sigmoid1", "Sigmoid", "conv1", "conv1"),
        layer("conv2", "Convolution", "conv1", convolution_param=conv2),
        layer("pool2", "Pooling", "conv2", pooling_param=pool),
        layer("bn2", "BatchNorm", "pool2", **bn),
        layer("tanh2", "TanH", "bn2", "bn2"),
        layer("conv3", "Convolution", "bn2", convolution_param=conv3),
        layer("pool3", "Pooling", "conv3", pooling_param={"pool": "AVE", **pool}),
        layer("bn3", "BatchNorm", "pool3", **bn),
        layer("scale3", "Scale", "bn3"),
        layer("fc1", "InnerProduct", "scale3", inner_product_param={"num_output": 7}),
        layer("bias1", "Bias", "fc1", "fc1"),
        layer("bn4", "BatchNorm", "fc1", "fc1", **bn),
        layer("fc2", "InnerProduct", "fc1", inner_product_param={"num_output": CLASSES}),
        layer("loss", "SoftmaxWithLoss", ["fc2", "label"]),
    ]
    for one in layers:
        if one["name"] in BLOBS:
            one["blobs"] = [blob.copy() for blob in BLOBS[one["name"]]]
    return {"name": "normed", "layer": layers}


def in_caffe(images):
    """The scores of images (N, H, W, 3), R G B, by PyTorch."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")
    f = torch.nn.functional
    t = {name: [torch.tensor(np.float64(one)) for one in of] for name, of in BLOBS.items()}

    def normed(x, name):
        mean, variance, [count] = t[name]
        return f.batch_norm(x, mean / count, variance / count, eps=EPSILON)

    def per_channel(values):
        return values[:, None, None]

    bgr = torch.tensor(images[..., ::-1].copy()).permute(0, 3, 1, 2).double()
    x = 0.01 * (bgr - per_channel(torch.tensor([3.0, 2.0, 1.0])))
    x = normed(f.conv2d(x, *t["conv1"], stride=2, padding=1), "bn1")
    x = torch.sigmoid(x * per_channel(t["scale1"][0]) + per_channel(t["scale1"][1]))
    x = f.max_pool2d(f.conv2d(x, *t["conv2"], padding=1, groups=2), 3, 2, ceil_mode=True)
    x = f.conv2d(torch.tanh(normed(x, "bn2")), *t["conv3"], padding=1)
    x = f.avg_pool2d(x, 3, 2, ceil_mode=True)
    x = normed(x, "bn3") * per_channel(t["scale3"][0])
    x = normed(f.linear(x.flatten(1), *t["fc1"]) + t["bias1"][0], "bn4")
    return f.linear(x, *t["fc2"]).numpy()


def written(folder, change=lambda of: None, name="net.caffemodel"):
    made = net()
    change({one["name"]: one for one in made["layer"]})
    (folder / name).write_bytes(encode("Net", made))
    return folder / name


def test_the_scores_are_caffes(tmp_path, close):
    """From the file alone, and with the prototxt."""
    images = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), np.uint8)
    path = written(tmp_path)
    (tmp_path / "net.prototxt").write_text(prototxt(net()))
    for definition in (None, tmp_path / "net.prototxt"):
        portable = read(path, definition=definition)
        trained = from_portable(portable, DeviceConfig("numpy")).trained
        [view] = portable.preprocessing.views(1)
        close(trained.scores(images, view), in_caffe(images))
    assert list(portable.params) == ["conv1", "conv2", "conv3", "fc1", "fc2"]


def test_a_bias_that_comes_from_folding_is_trained(tmp_path):
    """The convolution has none in Caffe, and what follows it has."""
    assert read(written(tmp_path)).model.recipe.layer_rates == {}
    bare = net()
    bare["layer"] = [one for one in bare["layer"] if one["name"] not in ("bn1", "scale1")]
    (tmp_path / "bare.caffemodel").write_bytes(encode("Net", bare))
    assert read(tmp_path / "bare.caffemodel").model.recipe.layer_rates == {"conv1.bias": 0.0}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda of: of["bn1"].update(bottom="data"), "'bn1' takes data"),
        (lambda of: of["sigmoid1"].update(type="BatchNorm"), "'sigmoid1'.*has no weights"),
        (lambda of: of["conv2"].update(type="Scale"), "'conv2' of type 'scale' follows 'sigmoid1'"),
        (lambda of: of["tanh2"].update(type="Scale", blobs=[grid((3,), 0)]), "needs .4."),
        (lambda of: of["tanh2"].update(type="Scale", blobs=[-np.ones(4)]), "negative factors"),
        (lambda of: of["pool3"]["pooling_param"].update(pad=1), "'bn3'.*follows 'pool3'"),
        (lambda of: of["bn2"]["blobs"].pop(), "'bn2' of type 'batchnorm' has blobs of .4, 4."),
        (lambda of: of["bn2"]["blobs"][1].fill(-9.0), "not finite"),
        (lambda of: of["bias1"].update(bias_param={"axis": 0}), "an axis other"),
    ],
)
def test_what_cannot_be_folded_is_refused_by_name(tmp_path, change, sentence):
    path = written(tmp_path, change)
    with pytest.raises(InputError, match=sentence) as caught:
        read(path)
    assert "\n" not in str(caught.value)


@COUNTS
def test_damage_is_one_sentence(tmp_path, count):
    assert len(refusals(written(tmp_path), read, count)) > 0.25 * count


def test_it_is_not_trained_here(tmp_path):
    """A definition alone, or a state, of a network with batch normalisation."""
    (tmp_path / "net.prototxt").write_text(prototxt(net()))
    with pytest.raises(InputError, match="'bn1' of type 'batchnorm' has no weights"):
        model_of(tmp_path / "net.prototxt")
    written(tmp_path, name="net_iter_3.caffemodel")
    state = encode("SolverState", {"iter": 3, "history": [grid((2, 2), 0)]})
    (tmp_path / "net_iter_3.solverstate").write_bytes(state)
    with pytest.raises(InputError, match="batch normalisation, which cannot be trained"):
        read(tmp_path / "net_iter_3.solverstate", for_training=True)
