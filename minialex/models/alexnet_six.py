"""The pre-trained networks of the paper's table 2: a sixth convolution over the last pooling.

The original added it for ImageNet's larger class lists (10,184 and 21,841 classes) and fine-tuned
the result on the challenge's thousand: `minialex train --from ... --replace-classifier`.
"""

from minialex.layers import Conv2D, ReLU
from minialex.models.alexnet_2012 import original
from minialex.models.small import alexnet_64
from minialex.network import Network


def alexnet_six(classes: int = 1000) -> Network:
    """The original's network with 256 maps of 3 x 3 more, which see both towers."""
    return _with_sixth(original(classes), Conv2D(256, 3, pad=1, weight_std=0.03, bias=1.0))


def alexnet_64_six(classes: int = 1000, *, towers: int = 2) -> Network:
    """`alexnet_64` with 128 maps of 3 x 3 more over its last pooling layer."""
    return _with_sixth(alexnet_64(classes, towers=towers), Conv2D(128, 3, pad=1, weight_std=None))


def _with_sixth(network: Network, layer: Conv2D) -> Network:
    """`network` with `layer` before the first dense one; no layer changes its name."""
    at = [name for name, _ in network.layers].index("fc6")
    sixth = (("conv6", layer), ("relu-conv6", ReLU()))
    return Network((*network.layers[:at], *sixth, *network.layers[at:]), network.input_shape)
