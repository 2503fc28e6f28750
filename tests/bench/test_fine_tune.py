"""`minialex bench --fine-tune`: both programs start from one network and are timed at one task."""

import json

import numpy as np
import pytest
from helpers.cli_tools import photos
from helpers.untrained import untrained

from minialex import backends
from minialex.cli.main import main
from minialex.inference.classifier import load
from minialex.layers import Dropout
from minialex.layers.base import Mode

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")
from helpers import torchvision_like as theirs  # noqa: E402

from minialex.bench.torch_fine_tuning import Tuner  # noqa: E402


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A small AlexNet in PyTorch, and the file of its weights."""
    net = theirs.alexnet(channels=(4, 6, 8, 6, 4), hidden=10, side=1, classes=7)
    net = theirs.random_weights(net)
    path = tmp_path_factory.mktemp("weights") / "w.pth"
    torch.save(net.state_dict(), path)
    return net, path


def test_pytorchs_network_is_the_imported_one(weights):
    net, path = weights
    images = np.random.default_rng(0).integers(0, 256, (3, 63, 63, 3), np.uint8)
    tuner = Tuner(load(path, "numpy"), 4, threads=1)
    assert tuner.network[-1].out_features == 4
    with torch.no_grad():
        tuner.network[-1] = net.classifier[-1]
        found = tuner.network.eval()(tuner._inputs(images)).numpy()
    wanted = theirs.scores(net, images)
    assert np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("name", ["alexnet-32", "alexnet-32-bn"])
def test_pytorch_computes_the_same_features(name):
    """With the paper's dropout, which scales at test time, and with batch normalisation."""
    source, rng = untrained(name=name), np.random.default_rng(1)
    for of in source.params.values():
        for key, value in of.items():  # also the running statistics
            scale = 0.1 if value.ndim == 1 else value.std()
            of[key] = (value + scale * rng.uniform(0.5, 1, value.shape)).astype(np.float32)
    tuner = Tuner(source, 4, threads=1)
    x = rng.normal(size=(3, 32, 32, 3)).astype(np.float32)
    b, network = backends.get("numpy"), source.model.network
    body = network.until(network.layers[-2][0])
    ours, _ = body.forward(b, source.params, x, Mode(training=False))
    with torch.no_grad():
        found = tuner.network.eval()[:-1](torch.from_numpy(x.transpose(0, 3, 1, 2).copy()))
    keep = 1.0
    for _, layer in network.layers:
        if isinstance(layer, Dropout) and not layer.inverted:
            keep = layer.keep  # whose factor is in the weights of the last layer
    np.testing.assert_allclose(
        keep * found.numpy(), ours, rtol=1e-3, atol=1e-3 * np.abs(ours).max()
    )


def test_crops_are_mirrored_and_lie_where_ours_do(weights):
    source = load(weights[1], "numpy")
    tuner, size = Tuner(source, 4, threads=1), source.model.recipe.resize
    pixels = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), np.uint8)
    edge = (size - 63) // 2
    centre = pixels[:, edge : edge + 63, edge : edge + 63]
    np.testing.assert_array_equal(tuner._view(pixels, 0), centre)
    np.testing.assert_array_equal(tuner._view(pixels, 1), centre[:, :, ::-1])
    assert tuner._augmented(pixels).shape == (2, 63, 63, 3)


def test_a_row_for_each_way(weights, tmp_path, capsys):
    found, data = tmp_path / "found.json", str(photos(tmp_path / "photos"))
    words = ["--data", data, "--from", str(weights[1]), "--rounds", "1", "--threads", "1"]
    assert main(["bench", "--fine-tune", *words, "--json", str(found)]) == 0
    out = capsys.readouterr().out
    document = json.loads(found.read_text())
    assert [row["epochs"] for row in document["rows"]] == [1, 20]
    for row in document["rows"]:
        assert row["what"] in out
        assert f"{row['theirs'] / row['ours']:.2f}" in out


def test_it_needs_images_and_weights(capsys):
    assert main(["bench", "--fine-tune"]) == 2
    assert "add --data PATH and --from RUN" in capsys.readouterr().err
