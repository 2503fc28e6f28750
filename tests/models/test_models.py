"""The named networks: sizes against their sources, and what sets them apart."""

import pytest

from minialex import models
from minialex.errors import InputError
from minialex.layers import Conv2D, Dense, Dropout, MaxPool, ResponseNorm, SpatialResponseNorm
from minialex.models import registry, summary
from minialex.network import Network

# parameters: the paper and the sources of each port, counted by hand from their definitions
PARAMETERS = {
    "alexnet": 60_965_224,
    "alexnet-2012": 60_965_224,
    "alexnet-single": 62_378_344,
    "alexnet-half": 59_798_312,
    "alexnet-six": 60_965_224 + 256 * (3 * 3 * 256 + 1),
    "bvlc-alexnet": 60_965_224,
    "caffenet": 60_965_224,
    "alexnet-bn": 60_965_224 + 2 * (96 + 256 + 384 + 384 + 256),
    "alexnet-torchvision": 61_100_840,
    "alexnet-128": 3_860_840 + (11 * 11 - 5 * 5) * 3 * 64,
    "alexnet-64": 3_860_840,
    "alexnet-64-bn": 3_860_840 + 2 * (64 + 128 + 192 + 192 + 128 + 1024 + 1024),
    "alexnet-96-bn": 3_866_344 + (7 * 7 - 5 * 5) * 3 * 64,
    "alexnet-64-six": 3_860_840 + 128 * (3 * 3 * 128 + 1),
    "alexnet-32": sum(
        (
            *(
                75 * 32 + 32,
                25 * 16 * 64 + 64,
                9 * 64 * 96 + 96,
                9 * 48 * 96 + 96,
                9 * 48 * 64 + 64,
            ),
            *(64 * 512 + 512, 512 * 512 + 512, 512 * 1000 + 1000),
        )
    ),
    "alexnet-32-bn": sum(
        (
            *(75 * 32, 25 * 16 * 64, 9 * 64 * 96, 9 * 48 * 96, 9 * 48 * 64),
            *(9 * 64 * 512, 512 * 512, 512 * 1000 + 1000),
            3 * (32 + 64 + 96 + 96 + 64 + 512 + 512),  # biases, and batch normalisation's two
        )
    ),
    "cifar10": 89_578,
    "vgg-11": 132_863_336,
    "vgg-16": 138_357_544,
    "vgg-19": 143_667_240,
    "vgg-11-64": 1_615_432,
    "vgg-16-64": 1_959_096,
    "cnn-m-2048": 92_469_864,
    "stream-48": 391_784,
}


@pytest.mark.parametrize("name", models.names())
def test_parameter_counts(name):
    assert models.get(name).network.parameter_count == PARAMETERS[name]


@pytest.mark.parametrize("size", [224, 227])
def test_the_papers_figures(size):
    network = models.get("alexnet", input_size=size).network
    rows = {row.name: row for row in network.rows()}
    outputs = [rows[name].output_shape for name in ("conv1", "pool1", "pool2", "conv5", "pool5")]
    assert outputs == [(55, 55, 96), (27, 27, 96), (13, 13, 256), (13, 13, 256), (6, 6, 256)]
    assert sum(row.neurons for row in rows.values()) == 659_272
    assert sum(row.connections for row in rows.values()) == 724_406_816
    assert (rows["conv1"].parameters, rows["conv1"].neurons) == (34_944, 290_400)


def test_alexnet_2012_differs_from_the_text():
    layers = dict(models.get("alexnet-2012").network.layers)
    order = list(layers)
    assert order.index("norm1") < order.index("pool1") < order.index("relu1")
    assert order[order.index("norm2") + 1] == "norm2-map"
    assert layers["norm1"] == ResponseNorm(5, 2.0, 2e-5, 0.75, groups=2)
    assert layers["norm2-map"] == SpatialResponseNorm(5, 1.0, 4e-5, 0.75)
    assert [layers[f"conv{i}"].weight_std for i in range(1, 6)] == [0.01, 0.01, 0.03, 0.03, 0.03]
    recipe = models.get("alexnet-2012").recipe
    assert (recipe.bias_rate, recipe.bias_decay, recipe.crop_chunk) == (2.0, 0.0, 32)
    assert (recipe.mean_window, recipe.colour_divide, recipe.schedule) == ("centre", True, "2012")


@pytest.mark.parametrize(
    ("name", "schedule", "epochs", "batch", "decay"),
    [
        ("bvlc-alexnet", "caffe", 90, 256, 0.0005),
        ("caffenet", "caffe", 90, 256, 0.0005),
        ("alexnet-bn", "poly", 60, 512, 0.0005),
        ("alexnet-torchvision", "step", 90, 256, 0.0001),
        ("cifar10", "cifar10", 140, 128, 0.004),
    ],
)
def test_recipes_of_other_sources(name, schedule, epochs, batch, decay):
    recipe = models.get(name).recipe
    found = (recipe.schedule, recipe.epochs, recipe.batch_size, recipe.weight_decay)
    assert found == (schedule, epochs, batch, decay)


@pytest.mark.parametrize("name", ["alexnet-six", "alexnet-64-six"])
def test_the_sixth_convolution_follows_the_last_pooling_across_both_towers(name):
    network = models.get(name).network
    order = [n for n, _ in network.layers]
    last_pool = max(i for i, (_, l) in enumerate(network.layers) if isinstance(l, MaxPool))
    assert last_pool < order.index("conv6") < order.index("fc6")
    rows = {row.name: row for row in network.rows()}
    assert rows["conv6"].output_shape == rows["pool5"].output_shape
    assert rows["conv6"].layer.groups == 1
    assert rows["conv5"].layer.groups == 2


def test_the_papers_initial_values():
    layers = dict(models.get("alexnet").network.layers)
    biases = {name: layer.bias for name, layer in layers.items() if hasattr(layer, "bias")}
    assert [name for name, bias in biases.items() if bias == 1.0] == [
        "conv2",
        "conv4",
        "conv5",
        "fc6",
        "fc7",
    ]
    assert {l.weight_std for l in layers.values() if hasattr(l, "weight_std")} == {0.01}


def test_the_papers_ablations_are_options():
    plain = dict(models.AlexNet(overlapping_pool=False, response_norm=False).layers)
    assert plain["pool1"] == MaxPool(2, 2)
    assert "norm1" not in plain
    assert "drop6" not in dict(models.AlexNet(dropout=False).layers)
    assert "Tanh" in summary.summary(models.get("alexnet", activation="tanh"))


def test_ports_scale_dropout_in_training():
    def inverted(name):
        return {l.inverted for _, l in models.get(name).network.layers if isinstance(l, Dropout)}

    assert inverted("alexnet") == {False}
    assert inverted("caffenet") == inverted("alexnet-torchvision") == {True}


def test_summary_shows_the_totals():
    text = summary.summary(models.get("alexnet"))
    for number in ("60,965,224", "659,272", "724,406,816", "290,400", "105,705,600", "630 million"):
        assert number in text
    assert "630 million" not in summary.summary(models.get("alexnet-64"))


def test_variants_table_has_a_row_for_each():
    lines = summary.variants().splitlines()
    for name, count in PARAMETERS.items():
        [row] = [line for line in lines if line.split(" ")[0] == name and f"{count:,}" in line]
        assert row


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("alexnett", {}, "did you mean 'alexnet'"),
        ("alexnet", {"towers": 3}, "1 or 2 towers"),
        ("alexnet", {"colour": 1}, "unknown option 'colour': choose from"),
        ("alexnet", {"activation": "rlu"}, "did you mean 'relu'"),
        ("alexnet", {"input_size": 40}, "does not fit"),
        ("alexnet", {"classes": 1}, "at least two classes"),
    ],
)
def test_a_wrong_name_or_option_is_refused(name, options, sentence):
    with pytest.raises(InputError, match=sentence):
        models.get(name, **options)


def test_variants_table_lists_a_users_networks_too(monkeypatch):
    layers = (("norm", ResponseNorm()), ("conv", Conv2D(4, 3)), ("fc", Dense(1000)))
    variant = models.Variant(lambda classes: Network(layers, (8, 8, 3)))
    monkeypatch.setitem(registry.PLUGINS.registered, "small", variant)
    [row] = [line for line in summary.variants().splitlines() if line.startswith("small  ")][:1]
    assert " first " in row


@pytest.mark.parametrize(
    ("layers", "shape", "sentence"),
    [
        (lambda c: (("fc", Dense(c)),), (16, 20, 3), "16 x 20 pixels: it must be square"),
        (lambda c: (("fc", Dense(c)),), (784,), r"shape \(784,\): it must be \(H, W, C\)"),
        (lambda c: (("c1", Conv2D(c, 16)),), (16, 16, 3), r"shape \(1, 1, 5\), not \(5,\)"),
    ],
)
def test_networks_that_cannot_be_trained(monkeypatch, layers, shape, sentence):
    monkeypatch.setattr(models.registry.PLUGINS, "registered", {})
    models.register("own-net", lambda classes: Network(layers(classes), shape))
    with pytest.raises(InputError, match=sentence):
        models.get("own-net", 5)
