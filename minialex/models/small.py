"""Networks for small images, "alexnet-128" to "alexnet-32", and "cifar10"."""

from dataclasses import replace

from minialex.layers import (
    AveragePool,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    MaxPool,
    ReLU,
    ResponseNorm,
)
from minialex.layers.base import Layer
from minialex.network import Network


def alexnet_64(classes: int = 1000, *, towers: int = 2) -> Network:
    """AlexNet for 64 x 64 crops: smaller kernels in the first layers, fewer channels and units.

    Our own design; He initialisation in convolutions 2 to 5 and the hidden dense layers.
    """
    norm = ResponseNorm(groups=towers)
    layers = (
        ("conv1", Conv2D(64, 5, stride=2, pad=2)),
        ("relu1", ReLU()),
        ("norm1", norm),
        ("pool1", MaxPool(3, 2)),
        ("conv2", Conv2D(128, 5, pad=2, groups=towers, weight_std=None)),
        ("relu2", ReLU()),
        ("norm2", norm),
        ("pool2", MaxPool(3, 2)),
        ("conv3", Conv2D(192, 3, pad=1, weight_std=None)),
        ("relu3", ReLU()),
        ("conv4", Conv2D(192, 3, pad=1, groups=towers, weight_std=None)),
        ("relu4", ReLU()),
        ("conv5", Conv2D(128, 3, pad=1, groups=towers, weight_std=None)),
        ("relu5", ReLU()),
        ("pool5", MaxPool(3, 2)),
        ("fc6", Dense(1024, weight_std=None)),
        ("relu6", ReLU()),
        ("drop6", Dropout(0.5)),
        ("fc7", Dense(1024, weight_std=None)),
        ("relu7", ReLU()),
        ("drop7", Dropout(0.5)),
        ("fc8", Dense(classes, weight_std=0.001)),
    )
    return Network(layers, (64, 64, 3))


def alexnet_64_bn(classes: int = 1000, *, towers: int = 2) -> Network:
    """`alexnet_64` with batch normalisation before each hidden ReLU, and He initialisation.

    Batch normalisation (Ioffe & Szegedy, 2015) replaces response normalisation and dropout.
    """
    layers: list[tuple[str, Layer]] = []
    for name, layer in alexnet_64(classes, towers=towers).layers:
        if isinstance(layer, ResponseNorm | Dropout):
            continue
        if isinstance(layer, Conv2D | Dense) and name != "fc8":
            layers += [(name, replace(layer, weight_std=None)), (f"bn{name[-1]}", BatchNorm())]
        else:
            layers.append((name, layer))
    return Network(tuple(layers), (64, 64, 3))


def alexnet_96_bn(classes: int = 1000, *, towers: int = 2) -> Network:
    """`alexnet_64_bn` for 96 x 96 crops: 7 x 7 kernels at stride 3 in the first layer.

    The other layers have the same size, so that a training step takes hardly longer.
    """
    (name, first), *others = alexnet_64_bn(classes, towers=towers).layers
    assert isinstance(first, Conv2D)
    return Network(((name, replace(first, kernel=7, stride=3, pad=3)), *others), (96, 96, 3))


def alexnet_128(classes: int = 1000, *, towers: int = 2) -> Network:
    """`alexnet_64` for 128 x 128 crops, with the paper's first kernels: 11 x 11 at stride 4.

    The smallest network here whose first kernels are large enough to look at (figure 3). Their
    initial values are smaller than the paper's, so that the noise does not show in the end.
    """
    (name, first), *others = alexnet_64(classes, towers=towers).layers
    assert isinstance(first, Conv2D)
    first = replace(first, kernel=11, stride=4, pad=5, weight_std=0.003)
    return Network(((name, first), *others), (128, 128, 3))


def alexnet_32(classes: int = 1000, *, towers: int = 2) -> Network:
    """`alexnet_64` for 32 x 32 crops, with half the channels and units: a fifteenth of the work.

    For comparisons that need many training runs.
    """
    return Network(_half_as_wide(alexnet_64(classes, towers=towers)), (32, 32, 3))


def alexnet_32_bn(classes: int = 1000, *, towers: int = 2) -> Network:
    """`alexnet_64_bn` for 32 x 32 crops, with half the channels and units.

    The first layer has stride 1, so that its output has as many pixels as that of `alexnet_64_bn`.
    """
    (name, first), *others = _half_as_wide(alexnet_64_bn(classes, towers=towers))
    assert isinstance(first, Conv2D)
    return Network(((name, replace(first, stride=1)), *others), (32, 32, 3))


def _half_as_wide(network: Network) -> tuple[tuple[str, Layer], ...]:
    """A network's layers with half the channels and units, except the last one."""
    layers: list[tuple[str, Layer]] = []
    for name, layer in network.layers:
        if isinstance(layer, Conv2D):
            layer = replace(layer, channels=layer.channels // 2)
        elif isinstance(layer, Dense) and name != "fc8":
            layer = replace(layer, units=layer.units // 2)
        layers.append((name, layer))
    return tuple(layers)


def cifar10(
    classes: int = 10, *, towers: int = 1, response_norm: bool = False, dropout: bool = False
) -> Network:
    """Four layers for 32 x 32 images (paper, section 3.1 and figure 1).

    The paper does not specify this network; these are the sizes of the CIFAR-10 example in its
    authors' code: three convolutions and one dense layer. `response_norm` adds the normalisation of
    the same authors' network with 11% error after layers 1 and 2; `towers=2` keeps convolution 2
    within each half of the channels; `dropout` is applied to the dense layer's input.
    """
    norm = ResponseNorm(n=9, k=1.0, alpha=0.001 / 9, beta=0.75, groups=towers)
    layers = (
        ("conv1", Conv2D(32, 5, pad=2, weight_std=0.0001)),
        ("pool1", MaxPool(3, 2, rounding="ceil")),
        ("act1", ReLU()),
        *((("norm1", norm),) if response_norm else ()),
        ("conv2", Conv2D(32, 5, pad=2, groups=towers, weight_std=0.01)),
        ("act2", ReLU()),
        *((("norm2", norm),) if response_norm else ()),
        ("pool2", AveragePool(3, 2, rounding="ceil")),
        ("conv3", Conv2D(64, 5, pad=2, weight_std=0.01)),
        ("act3", ReLU()),
        ("pool3", AveragePool(3, 2, rounding="ceil")),
        *((("drop3", Dropout(0.5)),) if dropout else ()),
        ("fc4", Dense(classes, weight_std=0.1)),
    )
    return Network(layers, (32, 32, 3))
