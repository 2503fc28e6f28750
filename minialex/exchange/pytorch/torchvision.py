"""torchvision's AlexNet and VGG, recognised by their shapes, and its preprocessing."""

from dataclasses import replace
from typing import Any

from minialex import models
from minialex.errors import InputError
from minialex.exchange.inference_form import standard_form
from minialex.exchange.pytorch.state_keys import Entry, inputs_of
from minialex.layers import ChannelScale, Conv2D, Dense, Layer
from minialex.models import Model, layer_list
from minialex.models.vgg import BLOCKS, vgg
from minialex.network import Network

# mean and standard deviation on ImageNet of RGB values 0 to 1
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)
GREY_MEAN = tuple(255 * value for value in MEAN)
INPUT_SCALE = tuple(1 / (255 * value) for value in DEVIATION)

_VARIANTS = {"A": "vgg-11", "D": "vgg-16", "E": "vgg-19"}


def resized_for(crop: int) -> int:
    """The shorter side that images are resized to: 256 for 224, and in proportion for others.

    The margin is a multiple of 4, so that a crop of a crop is where torchvision rounds to.
    """
    return crop + 4 * round(crop / 28)


def alexnet(convolutions: list[Entry], dense: list[Entry]) -> Model | None:
    """torchvision's AlexNet, with any numbers of channels and units."""
    kernels = [11, 5, 3, 3, 3]
    if [e.shape[2:] for e in convolutions] != [(k, k) for k in kernels] or len(dense) != 3:
        return None
    classes = dense[-1].shape[0]
    model = models.get("alexnet-torchvision", classes, input_scale=list(INPUT_SCALE))
    sized = _with_sizes(model.network, [e.shape[0] for e in (*convolutions, *dense)])
    if sized == model.network and dense[0].shape[1] == 36 * convolutions[-1].shape[0]:
        return model
    for size in (224, *range(63, 512, 32)):
        network = replace(sized, input_shape=(size, size, 3))
        inputs = network.parameter_shapes()["fc6"]["weight"][0]
        if inputs == dense[0].shape[1]:
            return models.get(layer_list.NAME, classes, **layer_list.options_of(network))
    return None


def vgg_like(convolutions: list[Entry], dense: list[Entry]) -> Model | None:
    """torchvision's or timm's VGG, with any numbers of channels and units."""
    if {e.shape[2:] for e in convolutions} != {(3, 3)} or len(dense) != 3:
        return None
    channels = [e.shape[0] for e in convolutions]
    side = round((inputs_of(dense[0]) / channels[-1]) ** 0.5)
    classes = dense[-1].shape[0]
    sizes: dict[str, Any] = {"width": channels[0], "hidden": dense[0].shape[0]}
    options: dict[str, Any] = {"inverted": True, "input_scale": list(INPUT_SCALE)}
    for configuration, blocks in BLOCKS.items():
        if sum(blocks) != len(channels) or not 1 <= side <= 64:
            continue
        sizes["input_size"] = 32 * side
        network = vgg(classes, configuration=configuration, **sizes, **options)
        defaults = {"width": 64, "hidden": 4096, "input_size": 224}
        different = {name: value for name, value in sizes.items() if value != defaults[name]}
        given = [e.shape[0] for e in (*convolutions, *dense)]
        if _with_sizes(network, given) == network:
            return models.get(_VARIANTS[configuration], classes, **options, **different)
    return None


def _with_sizes(network: Network, sizes: list[int]) -> Network:
    """The network with these numbers of channels and units in the layers with weights."""
    remaining = iter(sizes)
    layers: list[tuple[str, Layer]] = []
    for name, layer in network.layers:
        if isinstance(layer, Conv2D):
            layer = replace(layer, channels=next(remaining))
        elif isinstance(layer, Dense):
            layer = replace(layer, units=next(remaining))
        layers.append((name, layer))
    return replace(network, layers=tuple(layers))


def named(name: str, classes: int) -> Model:
    """The network that the user named, as PyTorch has it, with torchvision's preprocessing."""
    network = standard_form(models.get(name, classes).network)  # raises for an unknown name
    network = replace(network, layers=(("input", ChannelScale(INPUT_SCALE)), *network.layers))
    for options in ({}, {"inverted": True}):
        try:
            model = models.get(name, classes, input_scale=list(INPUT_SCALE), **options)
        except InputError:
            continue  # a network without this option
        if model.network == network:
            return model
    return models.get(layer_list.NAME, classes, **layer_list.options_of(network))
