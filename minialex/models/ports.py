"""AlexNet in other frameworks: "bvlc-alexnet", "caffenet", "alexnet-bn", "alexnet-torchvision"."""

from collections.abc import Sequence
from dataclasses import replace

from minialex.layers import (
    BatchNorm,
    ChannelScale,
    Conv2D,
    Dense,
    Dropout,
    Layer,
    MaxPool,
    ReLU,
    ResponseNorm,
)
from minialex.network import Network

_CAFFE_NORM = ResponseNorm(n=5, k=1.0, alpha=2e-5, beta=0.75)  # Caffe's alpha 1e-4, divided by n


def bvlc_alexnet(classes: int = 1000) -> Network:
    """Caffe's bvlc_alexnet: biases 0.1, small dense weights, LRN across both towers."""
    return _caffe(classes, bias=0.1, pool_first=False)


def caffenet(classes: int = 1000) -> Network:
    """Caffe's CaffeNet: bvlc_alexnet with pooling before normalisation and biases 1."""
    return _caffe(classes, bias=1.0, pool_first=True)


def _caffe(classes: int, bias: float, pool_first: bool) -> Network:
    pool = MaxPool(3, 2, rounding="ceil")

    def shrink(i: int) -> tuple[tuple[str, Layer], ...]:
        norm = (f"norm{i}", _CAFFE_NORM)
        return ((f"pool{i}", pool), norm) if pool_first else (norm, (f"pool{i}", pool))

    layers = (
        ("conv1", Conv2D(96, 11, stride=4)),
        ("relu1", ReLU()),
        *shrink(1),
        ("conv2", Conv2D(256, 5, pad=2, groups=2, bias=bias)),
        ("relu2", ReLU()),
        *shrink(2),
        ("conv3", Conv2D(384, 3, pad=1)),
        ("relu3", ReLU()),
        ("conv4", Conv2D(384, 3, pad=1, groups=2, bias=bias)),
        ("relu4", ReLU()),
        ("conv5", Conv2D(256, 3, pad=1, groups=2, bias=bias)),
        ("relu5", ReLU()),
        ("pool5", pool),
        ("fc6", Dense(4096, weight_std=0.005, bias=bias)),
        ("relu6", ReLU()),
        ("drop6", Dropout(0.5, inverted=True)),
        ("fc7", Dense(4096, weight_std=0.005, bias=bias)),
        ("relu7", ReLU()),
        ("drop7", Dropout(0.5, inverted=True)),
        ("fc8", Dense(classes)),
    )
    return Network(layers, (227, 227, 3))


def alexnet_bn(classes: int = 1000) -> Network:
    """NVIDIA Caffe's alexnet_bn: BN after every convolution instead of LRN; B. Ginsburg's, 2017.

    Its first four convolutions have no bias; here they do, and BN cancels it.
    """
    layers: list[tuple[str, Layer]] = []
    for name, layer in _caffe(classes, bias=0.1, pool_first=False).layers:
        if isinstance(layer, ResponseNorm):
            continue
        if isinstance(layer, Conv2D):
            bn = (name.replace("conv", "bn"), BatchNorm(epsilon=1e-4, keep=0.9))
            layers += [(name, replace(layer, bias=0.0)), bn]
        else:
            layers.append((name, layer))
    return Network(tuple(layers), (227, 227, 3))


def torchvision(classes: int = 1000, *, input_scale: Sequence[float] | None = None) -> Network:
    """torchvision's alexnet: one narrower tower, no normalisation, dropout before dense layers.

    Convolutions 2 to 5 and the hidden dense layers have He initialisation instead of PyTorch's
    uniform default. `input_scale` has a factor for each channel of the input: torchvision's weights
    expect one of standard deviation 1.
    """
    scale: tuple[tuple[str, Layer], ...] = ()
    if input_scale is not None:
        scale = (("input", ChannelScale(tuple(input_scale))),)
    layers = (
        *scale,
        ("conv1", Conv2D(64, 11, stride=4, pad=2)),
        ("relu1", ReLU()),
        ("pool1", MaxPool(3, 2)),
        ("conv2", Conv2D(192, 5, pad=2, weight_std=None)),
        ("relu2", ReLU()),
        ("pool2", MaxPool(3, 2)),
        ("conv3", Conv2D(384, 3, pad=1, weight_std=None)),
        ("relu3", ReLU()),
        ("conv4", Conv2D(256, 3, pad=1, weight_std=None)),
        ("relu4", ReLU()),
        ("conv5", Conv2D(256, 3, pad=1, weight_std=None)),
        ("relu5", ReLU()),
        ("pool5", MaxPool(3, 2)),
        ("drop5", Dropout(0.5, inverted=True)),
        ("fc6", Dense(4096, weight_std=None)),
        ("relu6", ReLU()),
        ("drop6", Dropout(0.5, inverted=True)),
        ("fc7", Dense(4096, weight_std=None)),
        ("relu7", ReLU()),
        ("fc8", Dense(classes, weight_std=0.001)),
    )
    return Network(layers, (224, 224, 3))
