"""The pre-trained networks of the paper's table 2: a sixth convolution after the last pooling.

The authors pre-trained them on the larger ImageNet releases (10,184 and 21,841 classes) and
fine-tuned on ILSVRC's 1,000: `minialex train --from ... --replace-classifier`.
"""

from minialex.layers import Conv2D, ReLU
from minialex.models.alexnet_2012 import original
from minialex.models.small import alexnet_64
from minialex.network import Network


def alexnet_six(classes: int = 1000) -> Network:
    """The original's network with a sixth convolution, 3 x 3, 256 channels, over both towers."""
    return _with_sixth(original(classes), Conv2D(256, 3, pad=1, weight_std=0.03, bias=1.0))


def alexnet_64_six(classes: int = 1000, *, towers: int = 2) -> Network:
    """`alexnet_64` with a sixth convolution, 3 x 3, 128 channels."""
    return _with_sixth(alexnet_64(classes, towers=towers), Conv2D(128, 3, pad=1, weight_std=None))


def _with_sixth(network: Network, layer: Conv2D) -> Network:
    """`network` with `layer` before the first dense one; the other layers keep their names."""
    at = [name for name, _ in network.layers].index("fc6")
    sixth = (("conv6", layer), ("relu-conv6", ReLU()))
    return Network((*network.layers[:at], *sixth, *network.layers[at:]), network.input_shape)
