"""AlexNet as the paper prints it: "alexnet", and "alexnet-single" without the split."""

from typing import Any

from minialex.errors import InputError
from minialex.layers import Conv2D, Dense, Dropout, MaxPool, ReLU, ResponseNorm
from minialex.models.ablations import compared
from minialex.network import Network


def AlexNet(
    classes: int = 1000,
    *,
    towers: int = 2,
    input_size: int = 227,
    **comparisons: Any,
) -> Network:
    """Five convolutional and three dense layers (paper, sections 3 to 5 and figure 2).

    `towers=2` keeps convolutions 2, 4 and 5 and the normalisations within each half of the
    channels, as on the paper's two GPUs. `input_size` is 227, or 224 with three zeros beyond the
    right and bottom edge, as in the original code. For the other options see `ablations.compared`.
    """
    if towers not in (1, 2):
        raise InputError(f"the paper's network has 1 or 2 towers, not {towers}")
    act, pool = ReLU(), MaxPool(3, 2)
    norm = ResponseNorm(n=5, k=2.0, alpha=1e-4, beta=0.75, groups=towers)
    layers = (
        ("conv1", Conv2D(96, 11, stride=4, rounding="ceil")),
        ("relu1", act),
        ("norm1", norm),
        ("pool1", pool),
        ("conv2", Conv2D(256, 5, pad=2, groups=towers, bias=1.0)),
        ("relu2", act),
        ("norm2", norm),
        ("pool2", pool),
        ("conv3", Conv2D(384, 3, pad=1)),
        ("relu3", act),
        ("conv4", Conv2D(384, 3, pad=1, groups=towers, bias=1.0)),
        ("relu4", act),
        ("conv5", Conv2D(256, 3, pad=1, groups=towers, bias=1.0)),
        ("relu5", act),
        ("pool5", pool),
        ("fc6", Dense(4096, bias=1.0)),
        ("relu6", act),
        ("drop6", Dropout(0.5)),
        ("fc7", Dense(4096, bias=1.0)),
        ("relu7", act),
        ("drop7", Dropout(0.5)),
        ("fc8", Dense(classes)),
    )
    return compared(Network(layers, (input_size, input_size, 3)), **comparisons)
