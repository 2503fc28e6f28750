"""The network of the run behind the paper's tables: "alexnet-2012", and its one-GPU half.

It differs from the paper's text in its response normalisations (five times weaker, the first before
the ReLU), a third one within each channel after layer 2, larger initial weights in convolutions 3
to 5, biases with twice the learning rate and no decay, and a 224 x 224 input padded at two edges.
"""

from minialex.layers import (
    Conv2D,
    Dense,
    Dropout,
    MaxPool,
    ReLU,
    ResponseNorm,
    SpatialResponseNorm,
)
from minialex.network import Network


def original(
    classes: int = 1000,
    *,
    towers: int = 2,
    widths: tuple[int, int, int, int, int] = (96, 256, 384, 384, 256),
) -> Network:
    """The original's eight layers; `widths` are the convolutions' channels over all towers."""
    across = ResponseNorm(n=5, k=2.0, alpha=2e-5, beta=0.75, groups=towers)
    within = SpatialResponseNorm(n=5, k=1.0, alpha=4e-5, beta=0.75)
    pool = MaxPool(3, 2, rounding="ceil")
    k1, k2, k3, k4, k5 = widths
    layers = (
        ("conv1", Conv2D(k1, 11, stride=4, rounding="ceil")),
        ("norm1", across),
        ("pool1", pool),
        ("relu1", ReLU()),
        ("conv2", Conv2D(k2, 5, pad=2, groups=towers, bias=1.0)),
        ("relu2", ReLU()),
        ("norm2", across),
        ("norm2-map", within),
        ("pool2", pool),
        ("conv3", Conv2D(k3, 3, pad=1, weight_std=0.03)),
        ("relu3", ReLU()),
        ("conv4", Conv2D(k4, 3, pad=1, groups=towers, weight_std=0.03, bias=1.0)),
        ("relu4", ReLU()),
        ("conv5", Conv2D(k5, 3, pad=1, groups=towers, weight_std=0.03, bias=1.0)),
        ("pool5", pool),
        ("relu5", ReLU()),
        ("fc6", Dense(4096, bias=1.0)),
        ("relu6", ReLU()),
        ("drop6", Dropout(0.5)),
        ("fc7", Dense(4096, bias=1.0)),
        ("relu7", ReLU()),
        ("drop7", Dropout(0.5)),
        ("fc8", Dense(classes)),
    )
    return Network(layers, (224, 224, 3))


def half(classes: int = 1000) -> Network:
    """The one-GPU comparison: half the channels in convolutions 1 to 4, the rest unchanged."""
    return original(classes, towers=1, widths=(48, 128, 192, 192, 256))
