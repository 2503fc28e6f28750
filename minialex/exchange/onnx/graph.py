"""Converts between an ONNX file and a portable model."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from minialex import models
from minialex.data.preprocessing import Preprocessing
from minialex.errors import InputError, reason
from minialex.exchange import metadata
from minialex.exchange.caffe import images
from minialex.exchange.formats.format import Request
from minialex.exchange.inference_form import split_scale, standard_form
from minialex.exchange.means import LARGEST_SIDE
from minialex.exchange.onnx import file
from minialex.exchange.onnx.chain import Chain, read_chain
from minialex.exchange.portable import PortableModel, colour_statistics, image_statistics
from minialex.exchange.pytorch import torchvision
from minialex.exchange.same_network import same_function
from minialex.layers import ChannelScale, ResponseNorm
from minialex.models import Model, layer_list
from minialex.network import Network
from minialex.tree import Tree


def read(request: Request) -> PortableModel:
    """The model in an ONNX file."""
    path = request.path
    graph = file.read(path)
    try:
        named = None if request.as_model is None else models.get(request.as_model)
        chain = read_chain(graph, None if named is None else named.network.input_shape)
        return _portable(path, chain, request.as_model)
    except InputError:
        raise
    except (ValueError, TypeError, LookupError, OverflowError, ArithmeticError) as error:
        raise InputError(f"{path} is damaged ({reason(error)})") from None


def _portable(path: Path, chain: Chain, as_model: str | None) -> PortableModel:
    if len(chain.input_shape) != 3 or len(chain.shape) != 1:
        raise InputError(
            f"{path} maps {chain.input_shape} to {chain.shape}: a classifier maps images "
            "(H, W, C) to scores, with a dense layer at the end"
        )
    if max(chain.input_shape[:2]) > LARGEST_SIDE:
        raise InputError(f"{path} takes images of {chain.input_shape}: that is too large")
    texts = chain.graph.texts
    about = metadata.read(path, texts) if metadata.NETWORK in texts else None
    notes = []
    if about is not None:
        _, network = split_scale(about.model.network)
        _, found = split_scale(chain.network())
        if same_function(network, found):
            metadata.require_named(path, about.model, as_model)
            return PortableModel(
                "ONNX",
                replace(about.model, recipe=about.recipe),
                _renamed(chain.params(), network),
                about.preprocessing(),
                about.class_names,
                about.class_ids,
                data=about.data,
            )
        notes.append("minialex's description in the file is not used: the graph was changed since")
    return _foreign(path, chain, as_model, notes)


def _foreign(path: Path, chain: Chain, as_model: str | None, notes: list[str]) -> PortableModel:
    """The preprocessing for a file that does not give it, or has it in the graph."""
    size, width, channels = chain.input_shape
    if size != width or channels != 3:
        raise InputError(
            f"{path} takes images of {size} x {width} pixels and {channels} channels: only square "
            "RGB images are supported"
        )
    resize = size
    squash, bilinear, reversed_channels = False, False, False
    if chain.mean is not None or chain.scale is not None:
        mean = np.zeros(channels) if chain.mean is None else np.asarray(chain.mean)
        notes.append("preprocessing: as in the graph, in RGB; images resized to the crop")
        if not chain.integer_input and _of_unit_range(mean, chain.scale):
            mean, chain.scale = 255 * mean, np.asarray(chain.scale) / 255
            notes.append("its input is from 0 to 1, by its mean and deviation")
    elif any(isinstance(layer, ResponseNorm) for _, layer in chain.layers):
        mean = np.array(images.usual_mean(size, "") or images.usual_mean(227, ""))
        reversed_channels, squash = True, True
        resize = 256 if size in (224, 227) else size
        notes.append("preprocessing: Caffe's (BGR, minus ImageNet's mean), as the graph has none")
    else:
        mean, chain.scale = np.array(torchvision.GREY_MEAN), np.array(torchvision.INPUT_SCALE)
        resize, bilinear = torchvision.resized_for(size), True
        notes.append("preprocessing: torchvision's, as the graph has none")
    network = chain.network()
    fields: dict[str, Any] = {"resize": resize, "crop": size, "squash": squash}
    fields["bilinear"] = bilinear
    fields["mean_window"] = "colour" if mean.ndim == 1 else "crop"
    model = _model(path, network, as_model, fields)
    params = chain.params()
    if reversed_channels:
        first = next(iter(params.values()))
        if first["weight"].ndim != 4 or first["weight"].shape[2] != 3:
            raise InputError(f"{path}: the first layer does not take BGR")
        first["weight"] = np.ascontiguousarray(first["weight"][:, :, ::-1])
    statistics = (
        colour_statistics(resize, tuple(map(float, mean)))
        if mean.ndim == 1
        else image_statistics(mean.astype(np.float32))
    )
    return PortableModel(
        "ONNX",
        model,
        _renamed(params, split_scale(model.network)[1]),
        Preprocessing(model.recipe, statistics),
        notes=tuple(notes),
    )


def _of_unit_range(mean: np.ndarray, scale: np.ndarray | None) -> bool:
    """Whether these are subtracted from and multiplied with images of 0 to 1, not 0 to 255."""
    if scale is None or not np.any(mean):
        return False
    return bool(np.all((mean >= 0) & (mean <= 1)) and np.all(np.asarray(scale) >= 0.5))


def _model(path: Path, network: Network, as_model: str | None, fields: dict[str, Any]) -> Model:
    """The network that the user named, or a list of layers; with `fields` in its recipe."""
    classes = network.classes
    if as_model is None:
        return models.get(layer_list.NAME, classes, **layer_list.options_of(network, fields))
    model = models.get(as_model, classes)
    scale, layers = split_scale(network)
    _, standard = split_scale(standard_form(model.network))
    if not same_function(standard, layers):
        raise InputError(f"{path} has a network other than {as_model}")
    if scale is not None:
        first = ("input", ChannelScale(scale))
        network = replace(standard, layers=(first, *standard.layers))
    else:
        network = standard
    if network != model.network:
        return models.get(layer_list.NAME, classes, **layer_list.options_of(network, fields))
    return replace(model, recipe=replace(model.recipe, **fields))


def _renamed(params: Tree, network: Network) -> Tree:
    """The same parameters under the network's layer names."""
    return dict(zip(network.parameter_shapes(), params.values(), strict=True))
