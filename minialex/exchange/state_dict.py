"""PyTorch state dicts of AlexNet and VGG by torchvision's or timm's key names, as networks here."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from minialex import models
from minialex.data.preprocessing import Preprocessing
from minialex.errors import InputError
from minialex.exchange import metadata, torch_module
from minialex.exchange.inference_form import split_scale
from minialex.exchange.portable import PortableModel, colour_statistics
from minialex.exchange.tensors import (
    BatchNorm,
    StoredTensor,
    convolution_weight,
    dense_weight,
    require_room,
    stored_convolution_weight,
    stored_dense_weight,
)
from minialex.layers import ChannelScale, Conv2D, Dense, Dropout, Layer
from minialex.models import Model, plan
from minialex.models.vgg import BLOCKS, vgg
from minialex.network import Network
from minialex.tree import Tree

# torchvision's preprocessing: of RGB values 0 to 1, their mean and standard deviation on ImageNet
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)
GREY_MEAN = tuple(255 * value for value in MEAN)
INPUT_SCALE = tuple(1 / (255 * value) for value in DEVIATION)

_PARTS = ("features", "pre_logits", "classifier", "head")  # in the order of the layers
_VARIANTS = {"A": "vgg-11", "D": "vgg-16", "E": "vgg-19"}
_CONTAINERS = ("state_dict", "model_state_dict", "model", "net", "model_ema", "state_dict_ema")
_WEIGHTS = {"weight", "bias"}
_NORM = {"weight", "bias", "running_mean", "running_var"}
_EPSILON = 1e-5


@dataclass(frozen=True)
class _Entry:
    """The tensors of one module, and those of the batch normalisation after it."""

    name: str
    tensors: Mapping[str, StoredTensor]
    norm: Mapping[str, StoredTensor] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.tensors["weight"].shape


def portable(
    path: Path, content: Any, source: str, as_model: str | None, class_names: Any = None
) -> PortableModel:
    """The model of a state dict, `content`: {key: StoredTensor}, or a checkpoint that holds one."""
    tensors = _state_dict(path, content)
    require_room(path, tensors.values())
    entries = _entries(path, tensors)
    convolutions = [e for e in entries if len(e.shape) == 4 and not _dense(e)]
    dense = [e for e in entries if e not in convolutions]
    if not dense or not convolutions or len(dense[-1].shape) not in (2, 4):
        raise _unfamiliar(path, entries)
    classes = dense[-1].shape[0]
    if as_model is not None:
        model = _as_named(as_model, classes)
    else:
        found = _alexnet(convolutions, dense) or _vgg(convolutions, dense)
        if found is None:
            raise _unfamiliar(path, entries)
        model = found
    params = _params(path, model.network, [*convolutions, *dense])
    size = model.network.input_shape[0]
    recipe = replace(
        model.recipe,
        resize=resized_for(size),
        bilinear=True,
        crop=size,
        mean_window="colour",
    )
    planned = model.name == plan.NAME
    options = plan.options_of(model.network, recipe) if planned else model.options
    model = replace(model, options=options, recipe=recipe)
    statistics = colour_statistics(recipe.resize, GREY_MEAN)
    note = (
        f"preprocessing: torchvision's (resize {recipe.resize}, crop {size}, ImageNet's mean and "
        "deviation), as a state dict does not say"
    )
    return PortableModel(
        source, model, params, Preprocessing(recipe, statistics), class_names, notes=(note,)
    )


def resized_for(crop: int) -> int:
    """The shorter side that images are resized to: 256 for 224, and much the same for others.

    The margin is a multiple of 4, so that the crop of a crop is the one that torchvision rounds to.
    """
    return crop + 4 * round(crop / 28)


def described(
    path: Path, tensors: Mapping[str, StoredTensor], source: str, about: metadata.Description
) -> PortableModel:
    """The model of a state dict that we wrote."""
    require_room(path, tensors.values())
    _, network = split_scale(about.model.network)
    entries = []
    for name, key in torch_module.modules(network).keys.items():
        of = {what: tensors.get(f"{key}.{what}") for what in ("weight", "bias")}
        if None in of.values():
            raise InputError(f"{path} describes a layer {name} and has no {key}")
        entries.append(_Entry(key, {what: t for what, t in of.items() if t is not None}))
    params = _params(path, network, entries)
    image = tensors.get(metadata.MEAN_IMAGE)
    return PortableModel(
        source,
        replace(about.model, recipe=about.recipe),
        params,
        about.preprocessing(None if image is None else image.load()),
        about.class_names,
        about.class_ids,
    )


def exported(
    portable: PortableModel, file: str, with_preprocessing: bool
) -> tuple[dict[str, np.ndarray], str]:
    """The state dict of a model by torchvision's key names, and the lines that load it."""
    if with_preprocessing:
        raise InputError(
            "a state dict holds weights only: --with-preprocessing goes with FILE.onnx"
        )
    scale, network = split_scale(portable.model.network)
    shapes = dict(zip([n for n, _ in network.layers], network.shapes(), strict=False))
    tensors: dict[str, np.ndarray] = {}
    for name, key in torch_module.modules(network).keys.items():
        weight = portable.params[name]["weight"]
        if weight.ndim == 2:
            weight = stored_dense_weight(weight, shapes[name])
        else:
            weight = stored_convolution_weight(weight)
        tensors |= {f"{key}.weight": weight, f"{key}.bias": portable.params[name]["bias"]}
    colour = metadata.mean_colour(portable)
    mean = "mean_image, cropped as the image" if colour is None else str(colour.tolist())
    if colour is None:
        tensors[metadata.MEAN_IMAGE] = portable.preprocessing.mean
    said = torch_module.program(network, file, mean=mean, scale=scale, mean_image=colour is None)
    return tensors, said


# ------------------------------------------------------------------------------------ the keys


def _state_dict(path: Path, content: Any) -> dict[str, StoredTensor]:
    """The tensors with dotted names in a state dict, or in the checkpoint of a training script."""
    for found in (content, *_inside(content)):
        if isinstance(found, Mapping):
            tensors = {
                key: value
                for key, value in found.items()
                if isinstance(key, str) and isinstance(value, StoredTensor)
            }
            if any(key.endswith(".weight") for key in tensors):
                return _without_prefix(tensors)
    raise InputError(
        f"{path} is not one of minialex and holds no state dict of PyTorch's (tensors by the names "
        "of modules): save the model's state_dict()"
    )


def _inside(content: Any) -> list[Any]:
    if not isinstance(content, Mapping):
        return []
    return [content[key] for key in _CONTAINERS if key in content]


def _without_prefix(tensors: dict[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Without what all names begin with: "module." of DataParallel, "model." of Lightning."""
    while True:
        firsts = {key.split(".")[0] for key in tensors}
        if len(firsts) > 1 or min(key.count(".") for key in tensors) < 2:
            return tensors
        tensors = {key.split(".", 1)[1]: value for key, value in tensors.items()}


def _entries(path: Path, tensors: Mapping[str, StoredTensor]) -> list[_Entry]:
    """The modules in the order of the layers, each batch normalisation with the one before it."""
    modules: dict[str, dict[str, StoredTensor]] = {}
    for key, tensor in tensors.items():
        name, _, what = key.rpartition(".")
        if what != "num_batches_tracked":
            modules.setdefault(name, {})[what] = tensor
    found: list[_Entry] = []
    for name in sorted(modules, key=_position):
        module = modules[name]
        if set(module) == _NORM and found and found[-1].norm is None:
            channels = found[-1].shape[:1]
            if any(tensor.shape != channels for tensor in module.values()):
                raise InputError(f"{path}: {name} does not normalise {found[-1].name}'s channels")
            found[-1] = replace(found[-1], norm=module)
        elif set(module) == _WEIGHTS and len(module["weight"].shape) in (2, 4):
            units = module["weight"].shape[:1]
            if module["bias"].shape != units:
                raise InputError(
                    f"{path}: {name}.bias is {module['bias'].shape} and must be {units}"
                )
            found.append(_Entry(name, module))
        else:
            raise InputError(
                f"{path} is not one of minialex, and none of PyTorch's AlexNet and VGG: it has "
                f"{name or 'no module'} with {', '.join(sorted(module)[:6])}"
            )
    return found


def _position(name: str) -> tuple[Any, ...]:
    """Modules by their part, then by the numbers in their names."""
    part = name.split(".")[0]
    rank = _PARTS.index(part) if part in _PARTS else len(_PARTS)
    return rank, [(int(w), "") if w.isdigit() else (-1, w) for w in re.split(r"(\d+)", name)]


def _dense(entry: _Entry) -> bool:
    """timm writes VGG's first dense layers as convolutions."""
    return entry.name.startswith("pre_logits") or len(entry.shape) == 2


def _unfamiliar(path: Path, entries: list[_Entry]) -> InputError:
    shown = ", ".join(f"{e.name} {'x'.join(map(str, e.shape))}" for e in entries[:4])
    return InputError(
        f"{path} is not one of minialex, and none of PyTorch's AlexNet and VGG ({shown}, ...): "
        "name the network with --as"
    )


# ------------------------------------------------------------------------------------ the network


def _alexnet(convolutions: list[_Entry], dense: list[_Entry]) -> Model | None:
    """torchvision's AlexNet, also with other numbers of channels and units."""
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
            return models.get(plan.NAME, classes, **plan.options_of(network))
    return None


def _vgg(convolutions: list[_Entry], dense: list[_Entry]) -> Model | None:
    """torchvision's or timm's VGG, also with other numbers of channels and units."""
    if {e.shape[2:] for e in convolutions} != {(3, 3)} or len(dense) != 3:
        return None
    channels = [e.shape[0] for e in convolutions]
    side = round((_inputs(dense[0]) / channels[-1]) ** 0.5)
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


def _inputs(entry: _Entry) -> int:
    return int(np.prod(entry.shape[1:]))


def _with_sizes(network: Network, sizes: list[int]) -> Network:
    """The network with these numbers of channels and units in its layers with weights."""
    remaining = iter(sizes)
    layers: list[tuple[str, Layer]] = []
    for name, layer in network.layers:
        if isinstance(layer, Conv2D):
            layer = replace(layer, channels=next(remaining))
        elif isinstance(layer, Dense):
            layer = replace(layer, units=next(remaining))
        layers.append((name, layer))
    return replace(network, layers=tuple(layers))


def _as_named(name: str, classes: int) -> Model:
    """The network that the user named, with PyTorch's dropout and torchvision's preprocessing."""
    network = models.get(name, classes).network  # raises for a name that does not exist
    layers = [
        (each, replace(layer, inverted=True) if isinstance(layer, Dropout) else layer)
        for each, layer in network.layers
    ]
    network = replace(network, layers=(("input", ChannelScale(INPUT_SCALE)), *layers))
    for options in ({}, {"inverted": True}):
        try:
            model = models.get(name, classes, input_scale=list(INPUT_SCALE), **options)
        except InputError:
            continue  # a network without this option
        if model.network == network:
            return model
    return models.get(plan.NAME, classes, **plan.options_of(network))


# ------------------------------------------------------------------------------------ the weights


def _params(path: Path, network: Network, entries: list[_Entry]) -> Tree:
    """The entries' weights for the layers that have any, in order."""
    shapes = dict(zip([n for n, _ in network.layers], network.shapes(), strict=False))
    wanted = network.parameter_shapes()
    if len(wanted) != len(entries):
        raise InputError(
            f"{path} has {len(entries)} layers with weights and the network {len(wanted)}: it is "
            "another network"
        )
    params: Tree = {}
    for (name, of), entry in zip(wanted.items(), entries, strict=True):
        dense = len(of["weight"]) == 2
        expected = tuple(of["weight"][::-1]) if dense else _stored(of["weight"])
        given = (entry.shape[0], _inputs(entry)) if dense else entry.shape
        if given != expected:
            raise InputError(
                f"{path}: {entry.name}.weight is {entry.shape}, and {name} needs {expected}: it is "
                "another network"
            )
        weight, bias = (entry.tensors[what].load() for what in ("weight", "bias"))
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
    """The shape K C/G R S of a weight R S C/G K."""
    return shape[3], shape[2], shape[0], shape[1]
