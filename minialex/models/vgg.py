"""VGG (Simonyan & Zisserman, 2015): configurations A, D and E, "vgg-11", "vgg-16" and "vgg-19".

Only 3 x 3 kernels, in blocks between max poolings. The authors draw all weights from N(0, 0.01), a
standard deviation of 0.1, which is too unstable for the deep networks: they train A first and
initialise D and E from it (`deepen`). With He or Glorot initialisation A is not needed.
"""

from collections.abc import Sequence

from minialex.errors import InputError, unknown
from minialex.layers import ChannelScale, Conv2D, Dense, Dropout, Layer, MaxPool, ReLU
from minialex.network import Network
from minialex.tree import Tree

BLOCKS = {"A": (1, 1, 2, 2, 2), "D": (2, 2, 3, 3, 3), "E": (2, 2, 4, 4, 4)}
_CHANNELS = (1, 2, 4, 8, 8)  # times `width`

# The layers that D and E take over from A: the first four convolutions and the dense layers.
SHARED = ("conv1_1", "conv2_1", "conv3_1", "conv3_2", "fc6", "fc7", "fc8")


def vgg(
    classes: int = 1000,
    *,
    configuration: str = "D",
    input_size: int = 224,
    width: int = 64,
    hidden: int = 4096,
    init: str | float = "he",
    inverted: bool = False,
    input_scale: Sequence[float] | None = None,
) -> Network:
    """`configuration` A, D or E: 8, 13 or 16 convolutions and three dense layers.

    `width` is the number of channels in the first block and `hidden` the units of the first two
    dense layers. `init` is the weight initialisation: "he", "glorot", or one standard deviation for
    all layers (the paper's is 0.1). "he" and "glorot" use 0.01 in the first layer and 0.001 in the
    last, so that scores start near zero. `inverted` is the form of dropout (see `Dropout`): true
    for weights trained by PyTorch or Caffe. `input_scale` has a factor for each channel of the
    input.
    """
    if configuration not in BLOCKS:
        raise unknown("configuration", configuration, BLOCKS)
    first, std, last = _deviations(init)
    layers: list[tuple[str, Layer]] = []
    if input_scale is not None:
        layers.append(("input", ChannelScale(tuple(input_scale))))
    blocks = zip(BLOCKS[configuration], _CHANNELS, strict=True)
    for block, (count, factor) in enumerate(blocks, start=1):
        for i in range(1, count + 1):
            start = first if block == i == 1 else std
            layers += [
                (f"conv{block}_{i}", Conv2D(factor * width, 3, pad=1, weight_std=start)),
                (f"relu{block}_{i}", ReLU()),
            ]
        layers.append((f"pool{block}", MaxPool(2, 2)))
    layers += [
        ("fc6", Dense(hidden, weight_std=std)),
        ("relu6", ReLU()),
        ("drop6", Dropout(0.5, inverted=inverted)),
        ("fc7", Dense(hidden, weight_std=std)),
        ("relu7", ReLU()),
        ("drop7", Dropout(0.5, inverted=inverted)),
        ("fc8", Dense(classes, weight_std=last)),
    ]
    return Network(tuple(layers), (input_size, input_size, 3))


def vgg_64(
    classes: int = 1000,
    *,
    configuration: str = "A",
    width: int = 16,
    hidden: int = 512,
    init: str | float = "he",
    inverted: bool = False,
    input_scale: Sequence[float] | None = None,
) -> Network:
    """For 64 x 64 crops, with a quarter of the channels and 512 hidden units; our own design."""
    return vgg(
        classes,
        configuration=configuration,
        input_size=64,
        width=width,
        hidden=hidden,
        init=init,
        inverted=inverted,
        input_scale=input_scale,
    )


def deepen(shallow: Tree, params: Tree) -> Tree:
    """`params` of D or E with the layers `SHARED` copied from a trained A.

    Arrays are on the host. Raises InputError if a layer is missing or of another shape.
    """
    for layer in SHARED:
        if layer not in shallow or layer not in params:
            raise InputError(
                f"initialising from a shallower network copies {', '.join(SHARED)}, but {layer} "
                "is missing: both must be VGG networks, the shallow one vgg-11"
            )
        for name, value in params[layer].items():
            found = shallow[layer][name].shape
            if found != value.shape:
                raise InputError(
                    f"{layer}.{name} is {found} in the shallow network and {value.shape} in the "
                    "deep one: train both with the same classes and sizes"
                )
    taken = {layer: {n: v.copy() for n, v in shallow[layer].items()} for layer in SHARED}
    return {**params, **taken}


def _deviations(init: str | float) -> tuple[float, float | str | None, float]:
    if isinstance(init, str):
        if init not in ("he", "glorot"):
            raise unknown("init", init, ("he", "glorot"))
        return 0.01, (None if init == "he" else "glorot"), 0.001
    return init, init, init
