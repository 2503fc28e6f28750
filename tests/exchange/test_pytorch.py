"""PyTorch's weights: every kind of file, every key name, the same scores; and export."""

import subprocess
import sys
import tracemalloc
from argparse import Namespace
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import minialex
from minialex import backends, losses, models
from minialex.cli import main
from minialex.errors import InputError
from minialex.exchange import metadata
from minialex.exchange.inference_form import split_scale, with_inverted_dropout
from minialex.exchange.pytorch import module, state_dict, writer
from minialex.exchange.read import read
from minialex.exchange.tensors import convolution_weight, dense_weight
from minialex.exchange.write import write
from minialex.layers import Dropout, Mode

torch = pytest.importorskip("torch", reason="PyTorch is not installed: its files cannot be made")
from helpers import torchvision_like as theirs  # noqa: E402
from helpers.portables import drawn  # noqa: E402
from helpers.slim import slim  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

SMALL = {"channels": (4, 6, 8, 6, 4), "hidden": 10, "side": 1, "classes": 7}
NETS = {
    "alexnet": (63, lambda: theirs.alexnet(**SMALL)),
    "vgg11": (64, lambda: theirs.vgg("vgg11", 7, width=2, hidden=12, side=2)),
    "vgg16": (32, lambda: theirs.vgg("vgg16", 7, width=2, hidden=12, side=1)),
    "vgg19": (32, lambda: theirs.vgg("vgg19", 7, width=2, hidden=12, side=1)),
    "vgg11_bn": (32, lambda: theirs.vgg("vgg11", 5, width=2, hidden=9, side=1, batch_norm=True)),
}


def zipped(state, path):
    torch.save(state, path)


def legacy(state, path):
    torch.save(state, path, _use_new_zipfile_serialization=False)


def safe(state, path):
    save_file({name: value.contiguous() for name, value in state.items()}, path)


FILES = {"zip": (zipped, "w.pth"), "legacy": (legacy, "w.pth"), "safe": (safe, "w.safetensors")}
WRAPPED = {
    "DataParallel": lambda state: {f"module.{name}": value for name, value in state.items()},
    "Lightning": lambda state: {
        "epoch": 3,
        "state_dict": {f"model.{name}": value for name, value in state.items()},
        "optimizer_states": [{"state": {0: {"momentum_buffer": torch.ones(3)}}}],
    },
    "torchvision's script": lambda state: {
        "model": state,
        "lr_scheduler": {"milestones": Counter([30, 60])},
        "args": Namespace(lr=0.1, model="alexnet"),
    },
    "PyTorch's tutorial": lambda state: {"epoch": 3, "model_state_dict": state},
    "other": lambda state: {"optimizer": {"lr": 0.1}, "network": state},
    "parameters": lambda state: {name: torch.nn.Parameter(v) for name, v in state.items()},
    "turned": lambda state: {
        name: value.t().contiguous().t() if value.ndim == 2 else value
        for name, value in state.items()
    },
}


def stored(tmp_path, name, file, change=lambda state: state):
    net = theirs.random_weights(NETS[name][1]())
    save, file_name = FILES[file]
    save(change(net.state_dict()), tmp_path / file_name)
    return net, tmp_path / file_name


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("name", NETS)
def test_scores_of_photographs(name, file, tmp_path, photographs, our_scores, close):
    net, path = stored(tmp_path, name, file)
    images = photographs(NETS[name][0])
    close(our_scores(read(path), images), theirs.scores(net, images))


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_every_backend_gives_the_scores(backend, tmp_path, photographs, our_scores, close):
    net, path = stored(tmp_path, "alexnet", "zip")
    images = photographs(63)
    close(our_scores(read(path), images, backend), theirs.scores(net, images))


@pytest.mark.parametrize("size", [(92, 81), (150, 100)])
def test_probabilities_of_an_image_file(size, tmp_path, photographs, close):
    """torchvision's Resize(71), CenterCrop(63), ToTensor, Normalize and a softmax; ours."""
    net, path = stored(tmp_path, "alexnet", "zip")
    image = Image.fromarray(photographs(160)[0]).crop((0, 0, *size))
    image.save(tmp_path / "photo.png")
    wide, high = size
    small = image.resize((int(71 * wide / high), 71), Image.Resampling.BILINEAR)
    left, top = round((small.width - 63) / 2.0), round((71 - 63) / 2.0)
    crop = np.asarray(small.crop((left, top, left + 63, top + 63)))
    expected = torch.softmax(torch.from_numpy(theirs.scores(net, crop[None])), 1).numpy()
    found = minialex.load(path, backend="numpy").probabilities(tmp_path / "photo.png")
    close(found, expected)


@pytest.mark.parametrize("file", FILES)
def test_a_large_weight_is_in_memory_once(file, tmp_path):
    """Rows are read a few at a time: half a file's size on top of what is kept is too much."""
    save, file_name = FILES[file]
    net = theirs.random_weights(theirs.alexnet(**{**SMALL, "hidden": 1200}))
    save(net.state_dict(), tmp_path / file_name)
    read(tmp_path / file_name)  # imports what it needs
    tracemalloc.start()
    try:
        found = read(tmp_path / file_name).params["fc7"]["weight"]
        assert tracemalloc.get_traced_memory()[1] < 1.5 * (tmp_path / file_name).stat().st_size
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(found.T, net.state_dict()["classifier.4.weight"].numpy())


@pytest.mark.parametrize("file", ["zip", "legacy"])
@pytest.mark.parametrize("change", WRAPPED)
def test_checkpoints_of_training_scripts(change, file, tmp_path, photographs, our_scores, close):
    net, path = stored(tmp_path, "alexnet", file, WRAPPED[change])
    images = photographs(63)
    close(our_scores(read(path), images), theirs.scores(net, images))


def test_of_several_state_dicts_none_is_chosen(tmp_path):
    """Which are the weights? A checkpoint may have momentum or averages of the same shapes."""
    _, path = stored(
        tmp_path, "alexnet", "zip", lambda state: {"momentum": state, "teacher": state}
    )
    with pytest.raises(InputError, match="weights under 'momentum', 'teacher': save one"):
        read(path)
    known = stored(tmp_path, "alexnet", "zip", lambda state: {"momentum": state, "model": state})
    assert read(known[1]).params


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("file", FILES)
def test_other_number_types(file, dtype, tmp_path, photographs, our_scores, close):
    def change(state):
        return {name: value.to(dtype) for name, value in state.items()}

    net, path = stored(tmp_path, "alexnet", file, change)
    images = photographs(63)
    close(our_scores(read(path), images), theirs.scores(net.to(dtype).float(), images))


@pytest.mark.parametrize("name", ["vgg11", "vgg16"])
def test_timms_key_names(name, tmp_path, photographs, our_scores, close):
    net, path = stored(tmp_path, name, "safe", theirs.timm_keys)
    images = photographs(NETS[name][0])
    close(our_scores(read(path), images), theirs.scores(net, images))


def test_the_published_sizes_are_the_named_networks():
    """Shapes only: the weights of the published VGG are half a gigabyte."""
    from minialex.exchange.pytorch.state_keys import Entry
    from minialex.exchange.pytorch.torchvision import alexnet, vgg_like
    from minialex.exchange.tensors import StoredTensor

    def entries(net):
        shapes = {k: tuple(v.shape) for k, v in net.state_dict().items() if k.endswith("weight")}
        made = [Entry(k, {"weight": StoredTensor(s, 4, None)}) for k, s in shapes.items()]
        return [e for e in made if len(e.shape) == 4], [e for e in made if len(e.shape) == 2]

    with torch.device("meta"):
        nets = {"alexnet-torchvision": theirs.alexnet()}
        nets |= {f"vgg-{depth}": theirs.vgg(f"vgg{depth}") for depth in (11, 16, 19)}
    for name, net in nets.items():
        given = entries(net)
        model = alexnet(*given) or vgg_like(*given)
        assert (model.name, model.classes, set(model.options) - {"inverted"}) == (
            name,
            1000,
            {"input_scale"},
        )
        assert model.network.parameter_count == sum(p.numel() for p in net.parameters())


def test_an_alexnet_with_lrn_is_not_taken_for_torchvisions(tmp_path):
    """It has the same shapes: normalisation, which has no weights, shows in the key numbers."""
    portable = drawn(slim(models.get("alexnet-single", 6).network, 16))
    write(portable, tmp_path / "ours.pth")
    torch.save(torch.load(tmp_path / "ours.pth"), tmp_path / "theirs.pth")
    with pytest.raises(InputError, match=r"features.4 would be number 3 there\): give .* --as"):
        read(tmp_path / "theirs.pth")


def test_names_without_numbers_leave_layers_assumed(tmp_path):
    """As of a module with attributes conv1 to conv5: nothing tells which layers are between."""

    def change(state):
        names = {n: f"conv{i}" for i, n in enumerate((0, 3, 6, 8, 10), 1)}
        return {
            f"{names[int(key.split('.')[1])]}.{key.split('.')[2]}" if "features" in key else key: v
            for key, v in state.items()
        }

    _, path = stored(tmp_path, "alexnet", "zip", change)
    assert "layers without weights: torchvision's" in read(path).notes[1]
    assert len(read(stored(tmp_path, "alexnet", "zip")[1]).notes) == 1


def test_batch_norm_after_another_layer_is_refused(tmp_path):
    """Conv, ReLU, BatchNorm: folded into the convolution, it would give other scores."""

    def change(state):
        return {key.replace("features.1.", "features.2."): value for key, value in state.items()}

    _, path = stored(tmp_path, "vgg11_bn", "zip", change)
    with pytest.raises(InputError, match=r"features.2, a batch norm.* right after features.0"):
        read(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("name", ["alexnet", "vgg11"])
def test_exported_names_and_bits_are_pytorchs(name, suffix, tmp_path):
    net, path = stored(tmp_path, name, "zip")
    first, out = read(path), tmp_path / f"out{suffix}"
    write(first, out)
    loaded = minialex_state(out)
    expected = net.state_dict()
    assert list(loaded) == list(expected) or suffix == ".safetensors"
    assert set(loaded) == set(expected)
    for key, value in expected.items():
        assert torch.equal(loaded[key], value), key
    again = read(out)
    assert again.model == first.model
    assert again.preprocessing.recipe == first.preprocessing.recipe
    for layer, of in first.params.items():
        for what, value in of.items():
            np.testing.assert_array_equal(again.params[layer][what], value)


# our network, and the same with torchvision's names: channels and units divided by 16
TRAINED = {
    "alexnet-torchvision": lambda: theirs.alexnet(6, (4, 12, 24, 16, 16), 256),
    "vgg-11": lambda: theirs.vgg("vgg11", 6, width=4, hidden=256),
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("name", TRAINED)
def test_torchvisions_class_loads_an_export_with_a_mean_image(
    name, suffix, tmp_path, photographs, our_scores, close
):
    """Strictly, so a trained network's mean image may not be among its weights; it is kept."""
    portable = drawn(slim(models.get(name, 6).network, 16), resize=230)
    out, net, images = tmp_path / f"net{suffix}", TRAINED[name]().eval(), photographs(224, 2)
    write(portable, out)
    net.load_state_dict(minialex_state(out), strict=True)
    x = np.float32(images) - portable.preprocessing.mean[3:227, 3:227]
    with torch.no_grad():
        close(our_scores(portable, images), net(torch.from_numpy(x).permute(0, 3, 1, 2)).numpy())
    again = read(out)
    np.testing.assert_array_equal(again.preprocessing.mean, portable.preprocessing.mean)
    np.testing.assert_array_equal(our_scores(again, images), our_scores(portable, images))


def test_a_state_dict_with_its_mean_image_as_a_tensor_is_read(tmp_path):
    """As earlier versions exported it."""
    portable = with_inverted_dropout(drawn(slim(models.get("alexnet-64", 6).network, 8), 72))
    tensors, _ = state_dict.exported(portable, "net.pth", False)
    texts = metadata.described(portable)
    del texts[metadata.MEAN_IMAGE]
    tensors["mean_image"] = portable.preprocessing.mean
    writer.write(tmp_path / "net.pth", tensors, texts)
    found = read(tmp_path / "net.pth")
    np.testing.assert_array_equal(found.preprocessing.mean, portable.preprocessing.mean)


def minialex_state(path):
    from safetensors.torch import load_file

    return torch.load(path) if path.suffix == ".pth" else load_file(path)


RGB = [name for name in models.names() if models.get(name).network.input_shape[2] == 3]


@pytest.mark.parametrize(
    ("name", "suffix"), [("caffenet", "pth"), *((name, "safetensors") for name in RGB)]
)
def test_the_printed_code_builds_the_network_in_pytorch(
    name, suffix, tmp_path, photographs, our_scores, close
):
    """Normalisation of every kind, ceil pooling, the paper's dropout and a mean image."""
    whole = models.get(name, 6).network
    size = min(99, whole.input_shape[0])
    network = slim(whole, 16 if whole.input_shape[0] > 200 else 8)
    layers = (*network.layers[:-2], ("drop7", Dropout(0.5)), network.layers[-1])
    portable = drawn(minialex.Network(layers, (size, size, 3)), resize=size + 11)
    said = write(portable, tmp_path / f"net.{suffix}")
    made = {}
    exec(said, made)
    images = photographs(size)
    corner = slice(5, 5 + size)
    x = images - made["mean_image"].numpy()[corner, corner]
    with torch.no_grad():
        expected = made["net"](torch.from_numpy(x).permute(0, 3, 1, 2).contiguous()).numpy()
    close(our_scores(portable, images), expected)
    close(our_scores(read(tmp_path / f"net.{suffix}"), images), expected)


@pytest.mark.parametrize("name", ["alexnet", "vgg11"])
def test_gradients_match_pytorch(name, tmp_path, photographs):
    """Gradients of all weights, without dropout: fine-tuning takes the same steps as in PyTorch."""
    net, path = stored(tmp_path, name, "zip")
    portable, images = read(path), photographs(NETS[name][0])
    labels, b = np.array([1, 4, 0]), backends.get("numpy")
    [(top, left, _)] = portable.preprocessing.views(1)
    network = portable.model.network.without_dropout()
    x = np.float32(images) - portable.preprocessing.mean[top, left]
    scores, saved = network.forward(b, portable.params, x, Mode(training=True))
    _, dscores = losses.get("softmax", 1.0)(b, scores, labels)
    grads = network.backward(b, portable.params, saved, dscores)

    loss = torch.nn.functional.cross_entropy(net(theirs.inputs(images)), torch.tensor(labels))
    loss.backward()
    modules = module.modules(split_scale(network)[1]).keys
    assert set(modules) == set(grads)
    shapes = dict(zip([n for n, _ in network.layers], network.shapes(), strict=False))
    for layer, key in modules.items():
        expected = net.get_parameter(f"{key}.weight").grad.numpy()
        dense = expected.ndim == 2
        ours = dense_weight(expected, shapes[layer]) if dense else convolution_weight(expected)
        found = grads[layer]["weight"]
        assert np.abs(found - ours).max() < 2e-5 * np.abs(ours).max(), layer
        expected = net.get_parameter(f"{key}.bias").grad.numpy()
        np.testing.assert_allclose(grads[layer]["bias"], expected, rtol=1e-3, atol=1e-6)


def test_fine_tuning_from_a_pytorch_file(tmp_path, capsys):
    """A new last layer on published weights; the other layers start as in the file."""
    net, path = stored(tmp_path, "alexnet", "zip")
    line = f"train --from {path} --replace-classifier --data shapes:48 --epochs 1 --batch-size 12"
    line += f" --lr 1e-9 --out {tmp_path}/run --backend numpy --allow-upscaling --no-mirror"
    assert main.main(line.split()) == 0, capsys.readouterr().err
    tuned = minialex.load(tmp_path / "run", backend="numpy")
    assert tuned.model.network.classes == 12
    first = net.state_dict()["features.0.weight"].numpy().transpose(2, 3, 1, 0)
    np.testing.assert_allclose(tuned.params["conv1"]["weight"], first, atol=1e-6)


def test_import_writes_a_weight_file(tmp_path, capsys, photographs):
    _, path = stored(tmp_path, "alexnet", "zip")
    (tmp_path / "names.txt").write_text("".join(f"n{i:08} thing {i}\n" for i in range(7)))
    line = f"import {path} --out {tmp_path}/out --class-names {tmp_path}/names.txt"
    assert main.main(line.split()) == 0
    assert "torchvision's" in capsys.readouterr().out
    ours = minialex.load(tmp_path / "out", backend="numpy")
    assert ours.class_names[3] == "thing 3"
    assert ours.class_ids[3] == "n00000003"
    image = photographs(80)[0]
    direct = minialex.load(path, backend="numpy")
    np.testing.assert_array_equal(ours.probabilities(image), direct.probabilities(image))


def test_importing_a_file_loads_no_heavy_packages(tmp_path):
    """It takes two seconds for torchvision's AlexNet; each of these would add up to a third."""
    _, path = stored(tmp_path, "alexnet", "zip")
    line = ["import", str(path), "--out", str(tmp_path / "out")]
    script = f"import sys; from minialex.cli import main; assert main.main({line}) == 0"
    output = subprocess.run(
        [sys.executable, "-c", f"{script}; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert not {"numba", "scipy", "torch", "PIL", "matplotlib", "onnx"} & set(output)


def test_the_network_can_be_given(tmp_path):
    _, path = stored(tmp_path, "vgg11", "zip")
    with pytest.raises(InputError, match=r"features.0.weight is \(2, 3, 3, 3\), but conv1_1 needs"):
        read(path, "vgg-11")
    with pytest.raises(InputError, match="did you mean 'vgg-11'"):
        read(path, "vgg11")


def test_numbered_classes_match_the_datas_in_order(tmp_path):
    """As in published networks: the sorted ids of ILSVRC's folders."""
    _, path = stored(tmp_path, "alexnet", "zip")
    numbered = minialex.load(path, backend="numpy")
    data = SimpleNamespace(name="data", class_ids=tuple(f"n{i}" for i in range(7)))
    assert numbered._labels(data) is None
    data.class_ids = tuple("0312456")
    np.testing.assert_array_equal(numbered._labels(data), [0, 3, 1, 2, 4, 5, 6])
    data.class_ids = data.class_ids[:5]
    np.testing.assert_array_equal(numbered._labels(data), [0, 3, 1, 2, 4])
    data.class_ids = ("cat", "dog")
    with pytest.raises(InputError, match="was not trained on"):
        numbered._labels(data)


@pytest.mark.parametrize("name", ["alexnet-64", "alexnet-64-bn", "vgg-11-64"])
def test_a_named_networks_weights_from_pytorch(name, tmp_path, photographs, our_scores, close):
    """--as NAME: also a network that PyTorch does not have, as somebody would build it there."""
    network = models.get(name, 4).network
    portable = drawn(network, 72)
    write(portable, tmp_path / "ours.pth")
    torch.save(torch.load(tmp_path / "ours.pth"), tmp_path / "theirs.pth")
    found = read(tmp_path / "theirs.pth", name)
    assert (found.model.name, found.model.classes) in ((name, 4), ("layers", 4))
    images = photographs(64)
    built = {}
    exec(write(found, tmp_path / "again.pth"), built)
    close(our_scores(found, images), theirs.scores(built["net"], images))
