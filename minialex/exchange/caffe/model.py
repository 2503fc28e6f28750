"""A Caffe model: the network's layers, its weights, and the images it expects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from minialex import models
from minialex.data.preprocessing import Preprocessing
from minialex.errors import InputError
from minialex.exchange.caffe import folding, images, weights
from minialex.exchange.caffe.folding import Fold
from minialex.exchange.caffe.images import Images
from minialex.exchange.caffe.layers import FOLDED, CaffeLayer, chain, layers_of, ours
from minialex.exchange.caffe.message import Message
from minialex.exchange.formats.format import Request
from minialex.exchange.portable import PortableModel, colour_statistics, image_statistics
from minialex.layers import ChannelScale, Conv2D, Dense, Layer, MaxPool
from minialex.models import Model, layer_list
from minialex.network import Network
from minialex.tree import Tree

_NAMED = ("bvlc-alexnet", "caffenet", "vgg-16", "vgg-19", "vgg-11")
_RESIZED = 256  # the side to which Caffe's tools resize ILSVRC's images


@dataclass(frozen=True)
class CaffeModel:
    """A network of ours with the file's layers that it was made from.

    The scale of its `images` is not in the `network`: see `_named`.
    """

    name: str
    network: Network
    sources: dict[str, CaffeLayer]  # for the layers with parameters, in order
    folds: dict[str, list[Fold]]  # what is folded into a layer, in order
    images: Images
    rgb: bool

    def tree(self, blobs: Mapping[str, Sequence[Any]]) -> Tree:
        """Our parameters from Caffe's blobs by layer: weights, or their momentum."""
        found: Tree = {}
        for (name, layer), shape in zip(self.network.layers, self.network.shapes(), strict=False):
            source = self.sources.get(name)
            if source is None:
                continue
            if name not in blobs:
                raise ValueError(f"{source} has no weights")
            found[name] = weights.parameters(source, blobs[name], layer, shape)
            for fold in self.folds.get(name, []):
                found[name] = folding.folded(fold, blobs[fold.source.name], found[name])
            if len(found) == 1:
                found[name] = weights.for_rgb(source, found[name], not self.rgb)
        return found


def described(
    net: Message,
    blobs: Mapping[str, Sequence[Any]],
    mean: np.ndarray | None,
    side: int | None = None,
) -> CaffeModel:
    """The network in a NetParameter; ValueError for one that is not supported.

    If no layer gives the size of its images, it follows from the first dense layer's blobs, or is
    `side`.
    """
    every = layers_of(net)
    said = images.described(net, every)
    layers = chain(every, net.texts("input"))
    problems = []
    sizes = images.sizes(said, mean) if side is None else (side,)
    if len(sizes) > 1 and not blobs:
        raise ValueError("it does not say how large its images are: give --option input_size=N")
    for size in sizes:
        try:
            network, folds = _network(layers, (size, size, _channels(layers, blobs)), blobs)
        except (ValueError, InputError) as error:
            problems.append(str(error))
            continue
        used = network.parameter_shapes()
        sources = {layer.name: layer for layer in layers if layer.name in used}
        rgb = images.is_rgb(said, net.text("name")) or network.input_shape[2] != 3
        return CaffeModel(net.text("name"), network, sources, folds, said, rgb)
    if len(set(problems)) == 1:
        raise ValueError(problems[0])
    raise ValueError("no common image size fits its dense layers: give the prototxt")


def _channels(layers: Sequence[CaffeLayer], blobs: Mapping[str, Sequence[Any]]) -> int:
    """Channels of the images, from the first convolution's weights."""
    first = next(layer for layer in layers if layer.kind in ("convolution", "innerproduct"))
    if first.kind != "convolution" or not blobs.get(first.name):
        return 3
    shape = np.shape(blobs[first.name][0])
    group = first.fields.sub("convolution_param").integer("group", 1)
    return shape[1] * group if len(shape) == 4 else 3


def _network(
    layers: Sequence[CaffeLayer], shape: tuple[int, int, int], blobs: Mapping[str, Sequence[Any]]
) -> tuple[Network, dict[str, list[Fold]]]:
    made: list[tuple[str, Layer]] = []
    folds: dict[str, list[Fold]] = {}
    here: tuple[int, ...] = shape
    for source in layers:
        if source.kind in FOLDED:
            if not blobs.get(source.name):
                raise ValueError(
                    f"{source} of type {source.kind!r} has no weights: it cannot be trained, "
                    "only folded into trained weights"
                )
            name, fold = folding.owner(source, made)
            folds.setdefault(name, []).append(fold)
            continue
        try:
            layer = ours(source, here)
            wanted = layer.parameter_shapes(here)
            here = layer.output_shape(here)
        except (ValueError, InputError) as error:
            raise ValueError(f"{source}: {error}") from None
        if isinstance(layer, Dense) and blobs.get(source.name):
            found = np.size(blobs[source.name][0])
            if found != wanted["weight"][0] * wanted["weight"][1]:
                raise ValueError(
                    f"{source} has {found:,} weights, but images of {shape[0]} x {shape[1]} "
                    f"pixels need {wanted['weight']}"
                )
        made.append((source.name, layer))
    if not isinstance(made[-1][1], Dense):
        raise ValueError(f"its last layer, {made[-1][0][:60]!r}, is not dense")
    return Network(tuple(made), shape), folds


def portable(
    found: CaffeModel,
    params: Tree,
    mean: tuple[np.ndarray, str] | None,
    request: Request,
) -> PortableModel:
    """The model with its preprocessing; `mean` is an RGB image and where it came from."""
    size, channels = found.network.input_shape[0], found.network.input_shape[2]
    notes = [f"Caffe's {found.name or 'network'} for {'RGB' if found.rgb else 'BGR'} images"]
    if channels == 1:
        raise ValueError("it takes grey images, but images are RGB here")
    resize = resized_to(found.network)
    window, said = "crop", found.images
    if mean is not None:
        image, where = mean
        if image.shape[0] < size or image.shape[2] != channels:
            raise InputError(f"{where} is {image.shape}, but the network's images are {size} wide")
        resize, statistics = image.shape[0], image_statistics(image)
        notes.append(f"mean image: {where}")
    else:
        colour = _mean_colour(found, request)
        window = "colour" if said.mean_values else "crop"  # as training measures it itself
        statistics = colour_statistics(resize, colour)
        notes.append(f"mean colour: {', '.join(f'{value:g}' for value in colour)} (RGB)")
    if said.scale != 1:
        notes.append(f"the input's scale of {said.scale:g} is a layer before the first")
    model = _named(found, request.as_model, _recipe(found, resize, window))
    return PortableModel(
        "Caffe",
        model,
        params,
        Preprocessing(model.recipe, statistics),
        notes=tuple(notes),
    )


def untrained(found: CaffeModel) -> Model:
    """The network of a definition without weights, with its recipe."""
    return _named(found, None, _recipe(found, resized_to(found.network), "crop"))


def resized_to(network: Network) -> int:
    """The side to which images are resized before they are cropped."""
    size = network.input_shape[0]
    return _RESIZED if size in (224, 227) else size


def _recipe(found: CaffeModel, resize: int, window: str) -> dict[str, Any]:
    """The fields of a recipe that the file gives."""
    size = found.network.input_shape[0]
    fields = {"resize": resize, "crop": size, "mean_window": window, "squash": True}
    return fields | weights.rates(list(found.sources.values()), found.folds)


def _mean_colour(found: CaffeModel, request: Request) -> tuple[float, ...]:
    """The RGB to subtract if no mean image was given; InputError for a network that needs one."""
    path, said, (size, _, channels) = request.path, found.images, found.network.input_shape
    values = said.mean_values
    if values:
        many = values * channels if len(values) == 1 else values
        if len(many) != channels:
            raise InputError(f"{path} has {len(values)} mean values, but {channels} channels")
        return many if found.rgb else many[::-1]
    usual = images.usual_mean(size, found.name) if channels == 3 else None
    if usual is not None:
        return usual
    if said.mean_file and not request.for_training:
        raise InputError(
            f"{path} was trained on images minus the mean image {said.mean_file[:200]}: give it "
            "with --mean, or the folder of the training images to compute it from"
        )
    return (0.0,) * channels


def _named(found: CaffeModel, as_model: str | None, fields: dict[str, Any]) -> Model:
    """The named network that this is, or the model "layers"; `fields` go into its recipe.

    The scale of its images is its first layer. In the weights of the next one it would change the
    size of a step in training: by its square, 1/65536 for 1/256.
    """
    network, scale = found.network, found.images.scale
    if as_model is None:
        model = published(network)
    else:
        model = models.get(as_model, network.classes)
        if not _same(model.network, network):
            raise InputError(f"the file has a network other than {as_model}")
    if scale != 1:
        factors = (scale,) * network.input_shape[2]
        model = None if model is None else _with_scale(model, factors)
        name = "scaled" if "input" in dict(network.layers) else "input"
        network = replace(network, layers=((name, ChannelScale(factors)), *network.layers))
    if model is None:
        options = layer_list.options_of(network, fields)
        model = models.get(layer_list.NAME, network.classes, **options)
    return replace(model, recipe=replace(model.recipe, **fields))


def _with_scale(model: Model, factors: tuple[float, ...]) -> Model | None:
    """The named network with these factors of its input, if it has an option for them."""
    try:
        return models.get(model.name, model.classes, input_scale=list(factors))
    except InputError:
        return None


def published(network: Network) -> Model | None:
    """The named network that this is, whatever its initial weights."""
    if network.input_shape[0] not in (224, 227):
        return None
    candidates = (models.get(name, network.classes) for name in _NAMED)
    return next((one for one in candidates if _same(one.network, network)), None)


def _same(one: Network, other: Network) -> bool:
    """Whether two networks compute the same function, with the same parameter names."""
    if one.input_shape != other.input_shape or len(one.layers) != len(other.layers):
        return False
    shapes = one.shapes()
    return shapes == other.shapes() and all(
        a[0] == b[0] and _bare(a[1], shape) == _bare(b[1], shape)
        for a, b, shape in zip(one.layers, other.layers, shapes, strict=False)
    )


def _bare(layer: Layer, shape: tuple[int, ...]) -> Any:
    """The layer without its initialisation, and with its rounding only if that matters."""
    if isinstance(layer, Conv2D | Dense):
        return replace(layer, weight_std=None, bias=0.0)
    return layer.geometry(shape) if isinstance(layer, MaxPool) else layer
