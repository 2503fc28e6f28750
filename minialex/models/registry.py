"""The named networks, each with the recipe that trains it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from minialex.errors import InputError
from minialex.models import ablations, layer_list
from minialex.models.alexnet import AlexNet
from minialex.models.alexnet_2012 import half, original
from minialex.models.alexnet_six import alexnet_64_six, alexnet_six
from minialex.models.ports import alexnet_bn, bvlc_alexnet, caffenet, torchvision
from minialex.models.recipe import Recipe
from minialex.models.small import (
    alexnet_32,
    alexnet_32_bn,
    alexnet_64,
    alexnet_64_bn,
    alexnet_96_bn,
    alexnet_128,
    cifar10,
)
from minialex.models.two_stream import cnn_m, stream_48
from minialex.models.vgg import vgg, vgg_64
from minialex.network import Network
from minialex.utils.plugins import Registry, run, short


@dataclass(frozen=True)
class Model:
    """A network and its recipe, with the name and options it was built from."""

    name: str
    network: Network
    recipe: Recipe
    classes: int
    options: dict
    source: str = ""  # where its builder is defined, if not in minialex


@dataclass(frozen=True)
class Variant:
    """A named network: builder, recipe, and a few words on what is special about it.

    `new_options` are defaults for new networks only, not for stored ones that lack them: so a
    default can change without changing the meaning of stored runs. Without a recipe, images are
    resized to 256/227 of the network's input, as in the paper.
    """

    build: Callable[..., Network]
    recipe: Recipe | None = None
    summary: str = "a network of your own"
    new_options: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""


PAPER = Recipe()
ORIGINAL = Recipe(
    crop=224,
    mean_window="centre",
    crop_chunk=32,
    colour_divide=True,
    bias_rate=2.0,
    bias_decay=0.0,
    schedule="2012",
    epochs=91,
)
CAFFE = Recipe(
    colour_noise=0.0, batch_size=256, bias_rate=2.0, bias_decay=0.0, schedule="caffe", epochs=90
)
ALEXNET_BN = replace(PAPER, colour_noise=0.0, batch_size=512, schedule="poly", epochs=60)
TORCHVISION = replace(  # its reference training: 32 images on each of eight GPUs
    PAPER, crop=224, colour_noise=0.0, batch_size=256, weight_decay=0.0001, schedule="step"
)
VGG = replace(PAPER, crop=224, mean_window="colour", batch_size=256, epochs=74)
STREAM = replace(PAPER, mirror=False, colour_noise=0.0)  # a mirrored clip can be another class
_AS_CAFFE = {"inverted": True}  # they were trained by Caffe, whose dropout scales in training
VGG_SMALL = replace(VGG, resize=72, crop=64, batch_size=128, schedule="cosine", epochs=30)

_VARIANTS: dict[str, Variant] = {
    "alexnet": Variant(AlexNet, PAPER, "the paper as printed: two towers, ReLU before LRN"),
    "alexnet-2012": Variant(
        original,
        ORIGINAL,
        "the run behind the paper's tables: weaker LRN before ReLU, a third LRN",
    ),
    "alexnet-single": Variant(
        lambda classes=1000, **options: AlexNet(classes, towers=1, **options),
        PAPER,
        "the paper's network as one tower",
    ),
    "alexnet-half": Variant(
        half,
        replace(ORIGINAL, schedule="2012-half", epochs=96),
        "the paper's one-GPU comparison: half the kernels in convolutions 1 to 4",
    ),
    "alexnet-six": Variant(
        alexnet_six,
        ORIGINAL,
        "alexnet-2012 with a sixth convolution after the last pooling, for pre-training",
    ),
    "bvlc-alexnet": Variant(bvlc_alexnet, CAFFE, "Caffe's port: biases 0.1, LRN with k = 1"),
    "caffenet": Variant(caffenet, CAFFE, "Caffe's variant: pooling before LRN, biases 1"),
    "alexnet-bn": Variant(
        alexnet_bn,
        ALEXNET_BN,
        "NVIDIA Caffe's for large batches: batch normalisation instead of LRN",
    ),
    "alexnet-torchvision": Variant(
        torchvision,
        TORCHVISION,
        "torchvision's: one narrower tower, no LRN, dropout before the dense layers",
    ),
    "alexnet-64": Variant(
        alexnet_64,
        replace(PAPER, resize=72, crop=64, schedule="cosine", epochs=30),
        "AlexNet for small images, 64 x 64",
    ),
    "alexnet-64-bn": Variant(
        alexnet_64_bn,
        replace(PAPER, resize=72, crop=64, schedule="cosine", epochs=30),
        "alexnet-64 with batch normalisation, without dropout: the default for photographs",
    ),
    "alexnet-96-bn": Variant(
        alexnet_96_bn,
        replace(PAPER, resize=108, crop=96, schedule="cosine", epochs=30),
        "alexnet-64-bn for 96 x 96 images: hardly slower, and more accurate with time to train",
    ),
    "alexnet-128": Variant(
        alexnet_128,
        replace(PAPER, resize=144, crop=128, schedule="cosine", epochs=30),
        "alexnet-64 for 128 x 128 images, with the paper's first kernels, 11 x 11",
    ),
    "alexnet-64-six": Variant(
        alexnet_64_six,
        replace(PAPER, resize=72, crop=64, schedule="cosine", epochs=30),
        "alexnet-64 with a sixth convolution after the last pooling, for pre-training",
    ),
    "alexnet-32": Variant(
        alexnet_32,
        replace(PAPER, resize=36, crop=32, schedule="cosine", epochs=30),
        "alexnet-64 for 32 x 32 images, with half the channels",
    ),
    "alexnet-32-bn": Variant(
        alexnet_32_bn,
        replace(PAPER, resize=36, crop=32, schedule="cosine", epochs=30),
        "alexnet-64-bn for 32 x 32 images, with half the channels: their default",
    ),
    "cifar10": Variant(
        cifar10,
        replace(
            PAPER,
            resize=32,
            crop=32,
            colour_noise=0.0,
            lr=0.001,
            weight_decay=0.004,
            bias_rate=2.0,
            bias_decay=0.0,
            layer_decays={"fc4": 750.0},  # 3, as in the authors' network with 19 % error
            schedule="cifar10",
            epochs=140,
        ),
        "the four-layer CIFAR-10 network of the paper's figure 1",
    ),
    "vgg-11": Variant(
        partial(vgg, configuration="A"),
        VGG,
        "VGG's configuration A, which can initialise D and E",
        _AS_CAFFE,
    ),
    "vgg-16": Variant(
        partial(vgg, configuration="D"),
        VGG,
        "VGG's configuration D: 13 convolutions of 3 x 3",
        _AS_CAFFE,
    ),
    "vgg-19": Variant(
        partial(vgg, configuration="E"),
        VGG,
        "VGG's configuration E: 16 convolutions of 3 x 3",
        _AS_CAFFE,
    ),
    "vgg-11-64": Variant(
        partial(vgg_64, configuration="A"), VGG_SMALL, "A at 64 x 64, a quarter of the channels"
    ),
    "vgg-16-64": Variant(
        partial(vgg_64, configuration="D"), VGG_SMALL, "D at 64 x 64, a quarter of the channels"
    ),
    "cnn-m-2048": Variant(
        cnn_m,
        replace(STREAM, crop=224, batch_size=256, schedule="step", epochs=90),
        "both streams of the two-stream video network; 20 channels for the temporal one",
        _AS_CAFFE,
    ),
    "stream-48": Variant(
        stream_48,
        replace(STREAM, resize=56, crop=48, batch_size=32, schedule="cosine", epochs=15),
        "a small stream of the video network, for 48 x 48",
    ),
}


def _variant(given: Any, source: str) -> Variant:
    """A variant from a user's function or variant."""
    if isinstance(given, Variant):
        return replace(given, source=source)
    if not callable(given):
        raise InputError(f"{source} is not a function (classes, **options) -> Network")
    return Variant(given, source=source)


PLUGINS: Registry[Variant] = Registry("model", "--model", _VARIANTS, _variant)


def register(
    name: str,
    build: Callable[..., Network],
    recipe: Recipe | None = None,
    summary: str = Variant.summary,
) -> None:
    """Register `build(classes, **options) -> Network` under `name` in this process.

    A package can provide a model through an entry point of the group "minialex.models": a
    function or a `Variant`.
    """
    if name == layer_list.NAME:
        raise InputError(f"the model name {name!r} is taken: register another name")
    PLUGINS.register(name, Variant(build, recipe, summary))


def use(model: Any) -> Any:
    """The name of a model given as a name, a function, FILE.py:FUNCTION or package.module:FUNCTION.

    Imports the file or module. `get`, and everything that loads weights, then knows the name.
    """
    return PLUGINS.use(model)


class NotKnown(InputError):
    """A file's network is defined by its author's code, which this process has not registered."""


def require(path: Any, name: str, source: str) -> str:
    """The name by which `get` knows the network of a weight file; InputError if there is none.

    `name` and `source` are taken from the file. Nothing is imported except what an installed
    package provides under this name.
    """
    for known in (name, short(source)) if source else (name,):
        if known == layer_list.NAME or PLUGINS.find(known) is not None:
            return known
    if not source:
        raise PLUGINS.unknown(name)
    raise NotKnown(
        f"{path} has the network {name!r}, which is its author's own code ({source}) and is not "
        f"run unless you name it: if you have and trust it, give --model {source} (import: "
        f"--as), or in Python model={source!r}"
    )


def names() -> tuple[str, ...]:
    """The names `get` accepts, the paper's first."""
    return PLUGINS.names()


def variants() -> dict[str, Variant]:
    """All variants by name."""
    return {name: PLUGINS.get(name) for name in PLUGINS.names()}


def get(name: str, classes: int | None = None, **options: Any) -> Model:
    """The model called `name` for `classes` classes (None: the number in its paper).

    `options` are keyword arguments of the model's own function, such as `towers` or `input_size`,
    and the paper's ablations, such as `half` or `without` (see `ablations.compared`). The model
    "layers" is any network, given by the list in its options (see `layer_list.options_of`).
    """
    require_options(name, options)
    return stored(name, classes, {**new_options(name), **options})


def require_options(name: str, options: Mapping[str, Any]) -> None:
    """Raise InputError for an option of a new network that is not of the type it should be."""
    variant = None if name == layer_list.NAME else PLUGINS.find(name)
    if variant is not None:
        ablations.require_types(variant.build, options)


def new_options(name: str) -> Mapping[str, Any]:
    """The options that a new network of this name gets in addition to the requested ones."""
    variant = PLUGINS.find(name)
    return {} if variant is None else variant.new_options


def stored(name: str, classes: int | None, options: Mapping[str, Any]) -> Model:
    """The model of a weight file or of a run's configuration, with exactly these options."""
    if name == layer_list.NAME:
        return _listed(classes, dict(options))
    variant = PLUGINS.get(name)
    if classes is None:
        classes = 10 if name == "cifar10" else 1000
    if classes < 2:
        raise InputError(f"a classifier needs at least two classes, but {classes} were given")
    given = dict(options)
    if variant.source:
        network = run(f"the model {name!r}", ablations.build, variant.build, classes, given)
        _require_network(name, network, classes)
    else:
        try:
            network = ablations.build(variant.build, classes, given)
        except TypeError as error:
            raise InputError(f"model {name!r} does not take these options: {error}") from None
    side = network.input_shape[0]
    recipe = variant.recipe or Recipe(resize=round(side * Recipe.resize / Recipe.crop))
    return Model(name, network, replace(recipe, crop=side), classes, given, variant.source)


def _require_network(name: str, made: Any, classes: int) -> None:
    if not isinstance(made, Network):
        raise InputError(f"the model {name!r} is a {type(made).__name__}: it must be a Network")
    if len(made.input_shape) != 3:
        raise InputError(
            f"the model {name!r} has an input of shape {made.input_shape}: it must be (H, W, C)"
        )
    height, width = made.input_shape[:2]
    if height != width:
        raise InputError(
            f"the model {name!r} has an input of {height} x {width} pixels: it must be square"
        )
    if made.shapes()[-1] != (classes,) and made.classes == classes:
        raise InputError(
            f"the model {name!r} has an output of shape {made.shapes()[-1]}, not ({classes},): end "
            "with a Dense layer"
        )
    if made.classes != classes:
        raise InputError(
            f"the model {name!r} has {made.classes} outputs, but the data {classes} classes: its "
            "function gets the number of classes as its first argument, for the last layer"
        )


def _listed(classes: int | None, options: dict[str, Any]) -> Model:
    if classes is None:
        raise InputError(
            f"the model {layer_list.NAME!r} is built from a list: give the number of classes, too"
        )
    try:
        network, recipe = layer_list.build(classes, **options)
    except TypeError as error:
        raise InputError(
            f"model {layer_list.NAME!r} does not take these options: {error}"
        ) from None
    return Model(layer_list.NAME, network, recipe, classes, dict(options))
