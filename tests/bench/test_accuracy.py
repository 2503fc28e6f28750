"""`minialex bench --accuracy`: each method learns the drawings, and all use the same test."""

import json
from itertools import count

import numpy as np
import pytest
from helpers.cli_tools import photos

from minialex.bench import accuracy
from minialex.cli.main import main

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")
for name in ("skimage", "sklearn"):
    pytest.importorskip(name, reason=f"{name} is missing: pip install 'minialex[baselines]'")

from minialex.baselines import hog  # noqa: E402
from minialex.bench import torch_training  # noqa: E402
from minialex.bench.torch_training import Images  # noqa: E402


@pytest.mark.usefixtures("slim_networks")
def test_a_table_of_all_methods(tmp_path, capsys):
    found, data = tmp_path / "found.json", str(photos(tmp_path / "photos"))
    arguments = ["--data", data, "--minutes", "0.002", "--seeds", "2", "--threads", "1"]
    assert main(["bench", "--accuracy", *arguments, "--json", str(found)]) == 0
    lines = capsys.readouterr().out.splitlines()
    document = json.loads(found.read_text())
    assert [line.split("  ")[0] for line in lines[2:]] == [m["name"] for m in document["methods"]]
    assert [len(m["accuracies"]) for m in document["methods"]] == [2, 2, 2, 1]
    assert [m["limited"] for m in document["methods"]] == [True, True, True, False]
    assert ["took" in line for line in lines[2:]] == [False, False, False, True]


def test_without_data_the_error_says_what_is_needed(capsys):
    assert main(["bench", "--accuracy"]) == 2
    assert "add --data PATH" in capsys.readouterr().err


def test_the_deviation_is_the_sample_standard_deviation():
    assert str(accuracy.Method("a", [0.50, 0.52], 1.0)) == "51.0% ± 1.4"
    assert str(accuracy.Method("a", [0.50], 1.0)) == "50.0%"


def stripes(count, seed):
    """Stripes across (class 0) or down (1), at random phases, as 12 x 12 images."""
    rng = np.random.default_rng(seed)
    wave = (np.arange(12) // 3 + rng.integers(0, 8, (count, 1))) % 2 * 200
    labels = np.arange(count) % 2
    down = np.broadcast_to(wave[:, :, None], (count, 12, 12))
    pixels = np.where(labels[:, None, None] == 1, down, down.transpose(0, 2, 1))
    return Images(np.repeat(pixels[..., None], 3, axis=3).astype(np.uint8), labels)


@pytest.mark.parametrize("network", ["resnet", "linear"])
def test_pytorch_learns_stripes(network):
    torch.manual_seed(0)
    made = torch_training.half_resnet18(2, 10)
    if network == "linear":  # the two classes have the same mean
        made = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
        made.append(torch.nn.Linear(3, 2))
    found, updates = torch_training.accuracy_after(
        made,
        stripes(32, 0),
        stripes(32, 1),
        minutes=1,
        crop=10,
        lr=0.02,
        seed=0,
        threads=1,
        clock=count(step=2).__next__,  # an update takes two seconds
    )
    assert updates == 29
    # ten seeds: always 100 %, and 50 %
    assert found > 0.9 if network == "resnet" else found < 0.8


def test_the_learning_rate_rises_and_falls_to_zero():
    rates = [torch_training._share(spent) for spent in np.linspace(0, 1, 201)]
    assert max(rates) == pytest.approx(1.0, abs=0.01)
    assert np.argmax(rates) == 10
    assert rates[0] == pytest.approx(0.5)
    assert rates[-1] == pytest.approx(0.0)


def test_colour_histograms_are_per_cell():
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, 4:] = (255, 0, 0)
    found = hog.colours(image, 4).reshape(2, 2, 3, 8)  # top, left, channel, value
    assert (found.sum(axis=-1) == 1).all()
    assert (found[:, 0, :, 0] == 1).all()
    assert (found[:, 1, 0, 7] == 1).all()
    assert (found[:, 1, 1:, 0] == 1).all()
