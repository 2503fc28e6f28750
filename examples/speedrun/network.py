"""The speedrun's network: `alexnet-64-bn` with larger images."""

from dataclasses import replace

from minialex import models
from minialex.layers import Conv2D
from minialex.network import Network


def alexnet_96(classes: int = 10, *, towers: int = 2) -> Network:
    """`alexnet-64-bn` for 96 x 96 crops: 7 x 7 kernels at stride 3 in the first layer.

    The other layers have the same size, so that a training step takes hardly longer.
    """
    (name, first), *others = models.get("alexnet-64-bn", classes, towers=towers).network.layers
    assert isinstance(first, Conv2D)
    return Network(((name, replace(first, kernel=7, stride=3, pad=3)), *others), (96, 96, 3))
