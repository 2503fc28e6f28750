"""PyTorch state dicts of AlexNet and VGG, with torchvision's or timm's key names, as networks."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from minialex.data.preprocessing import Preprocessing
from minialex.errors import InputError
from minialex.exchange import metadata
from minialex.exchange.inference_form import split_scale
from minialex.exchange.portable import PortableModel, colour_statistics
from minialex.exchange.pytorch import module, torchvision
from minialex.exchange.pytorch.state_keys import (
    Entry,
    entries_of,
    inputs_of,
    is_dense,
    place,
    state_dict,
    unfamiliar,
)
from minialex.exchange.tensors import (
    BatchNorm,
    StoredTensor,
    convolution_weight,
    dense_weight,
    require_room,
    stored_as_dense_weight,
    stored_convolution_weight,
    stored_dense_weight,
)
from minialex.models import layer_list
from minialex.network import Network
from minialex.tree import Tree

_EPSILON = 1e-5  # PyTorch's default in batch normalisation


def portable(
    path: Path, content: Any, source: str, as_model: str | None, class_names: Any = None
) -> PortableModel:
    """The model of a state dict, `content`: {key: StoredTensor}, or a checkpoint that holds one."""
    tensors = state_dict(path, content)
    require_room(path, tensors.values())
    entries = entries_of(path, tensors)
    convolutions = [e for e in entries if len(e.shape) == 4 and not is_dense(e)]
    dense = [e for e in entries if e not in convolutions]
    if not dense or not convolutions or len(dense[-1].shape) not in (2, 4):
        raise unfamiliar(path, entries)
    classes = dense[-1].shape[0]
    notes: list[str] = []
    if as_model is not None:
        model = torchvision.named(as_model, classes)
    else:
        found = torchvision.alexnet(convolutions, dense) or torchvision.vgg_like(
            convolutions, dense
        )
        if found is None:
            raise unfamiliar(path, entries)
        model = found
        if not _numbered_alike(path, model.network, convolutions):
            notes.append("layers without weights: torchvision's, as the key names do not tell")
    params = _params(path, model.network, [*convolutions, *dense])
    size = model.network.input_shape[0]
    recipe = replace(
        model.recipe,
        resize=torchvision.resized_for(size),
        bilinear=True,
        crop=size,
        mean_window="colour",
    )
    listed = model.name == layer_list.NAME
    options = layer_list.options_of(model.network, recipe) if listed else model.options
    model = replace(model, options=options, recipe=recipe)
    statistics = colour_statistics(recipe.resize, torchvision.GREY_MEAN)
    notes.insert(
        0,
        f"preprocessing: torchvision's (resize {recipe.resize}, crop {size}, ImageNet's mean and "
        "deviation), as a state dict has none",
    )
    return PortableModel(
        source, model, params, Preprocessing(recipe, statistics), class_names, notes=tuple(notes)
    )


def _numbered_alike(path: Path, network: Network, convolutions: list[Entry]) -> bool:
    """Whether the keys number the convolutions; InputError unless as in torchvision's `network`.

    Layers without weights, such as response normalisation, show only as gaps in the numbers.
    """
    found = [place(entry.name) for entry in convolutions]
    places = [one for one in found if one is not None]
    if len(places) < len(found) or len({parent for parent, _ in places}) > 1:
        return False
    keys = list(module.modules(split_scale(network)[1]).keys.values())
    for i, (_, number) in enumerate(places):
        norms = sum(entry.norm is not None for entry in convolutions[:i])
        expected = int(keys[i].rpartition(".")[2]) + norms
        if number != expected:
            raise InputError(
                f"{path} has the shapes of torchvision's network but other layers between them "
                f"({convolutions[i].name} would be number {expected} there): give the network with "
                "--as"
            )
    return True


def described(
    path: Path, tensors: Mapping[str, StoredTensor], source: str, about: metadata.Description
) -> PortableModel:
    """The model of a state dict that we wrote."""
    require_room(path, tensors.values())
    _, network = split_scale(about.model.network)
    entries = []
    for name, key in module.modules(network).keys.items():
        of = {what: tensors.get(f"{key}.{what}") for what in ("weight", "bias")}
        if None in of.values():
            raise InputError(f"{path} describes a layer {name} but has no {key}")
        entries.append(Entry(key, {what: t for what, t in of.items() if t is not None}))
    params = _params(path, network, entries)
    image = tensors.get(metadata.OLD_MEAN_IMAGE)
    return PortableModel(
        source,
        replace(about.model, recipe=about.recipe),
        params,
        about.preprocessing(None if image is None else image.load()),
        about.class_names,
        about.class_ids,
        data=about.data,
    )


def exported(
    portable: PortableModel, file: str, with_preprocessing: bool
) -> tuple[dict[str, np.ndarray], str]:
    """The state dict of a model with torchvision's key names, and the code that loads it."""
    if with_preprocessing:
        raise InputError("a state dict has only weights: --with-preprocessing needs FILE.onnx")
    scale, network = split_scale(portable.model.network)
    shapes = dict(zip([n for n, _ in network.layers], network.shapes(), strict=False))
    tensors: dict[str, np.ndarray] = {}
    for name, key in module.modules(network).keys.items():
        weight = portable.params[name]["weight"]
        if weight.ndim == 2:
            weight = stored_dense_weight(weight, shapes[name])
        else:
            weight = stored_convolution_weight(weight)
        tensors |= {f"{key}.weight": weight, f"{key}.bias": portable.params[name]["bias"]}
    colour = metadata.mean_colour(portable)
    mean = "mean_image, cropped as the image" if colour is None else str(colour.tolist())
    image = portable.preprocessing.mean.shape if colour is None else None
    return tensors, module.program(network, file, mean=mean, scale=scale, mean_image=image)


def _params(path: Path, network: Network, entries: list[Entry]) -> Tree:
    """The entries' weights for the layers that have any, in order."""
    shapes = dict(zip([n for n, _ in network.layers], network.shapes(), strict=False))
    wanted = network.parameter_shapes()
    if len(wanted) != len(entries):
        raise InputError(
            f"{path} has {len(entries)} layers with weights, but the network {len(wanted)}: it is "
            "another network"
        )
    params: Tree = {}
    for (name, of), entry in zip(wanted.items(), entries, strict=True):
        dense = len(of["weight"]) == 2
        expected = tuple(of["weight"][::-1]) if dense else _stored(of["weight"])
        given = (entry.shape[0], inputs_of(entry)) if dense else entry.shape
        if given != expected:
            raise InputError(
                f"{path}: {entry.name}.weight is {entry.shape}, but {name} needs {expected}: it is "
                "another network"
            )
        bias = entry.tensors["bias"].load()
        if dense and entry.norm is None:
            weight = stored_as_dense_weight(entry.tensors["weight"], shapes[name])
            params[name] = {"weight": weight, "bias": bias}
            continue
        weight = entry.tensors["weight"].load()
        if entry.norm is not None:
            names = ("weight", "bias", "running_mean", "running_var")
            scale, shift, mean, variance = (entry.norm[what].load() for what in names)
            norm = BatchNorm(scale, shift, mean, variance, _EPSILON)
            weight, bias = norm.folded(weight, bias)
        if dense:
            weight = dense_weight(weight.reshape(len(weight), -1), shapes[name])
        else:
            weight = convolution_weight(weight)
        params[name] = {"weight": weight, "bias": bias}
    return params


def _stored(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape K C/G R S for a weight R S C/G K."""
    return shape[3], shape[2], shape[0], shape[1]
