"""Network metadata stored with the weights in files that we write: {key: JSON}."""

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minialex import models
from minialex.data.preprocessing import Preprocessing
from minialex.errors import InputError, reason
from minialex.exchange.inference_form import split_scale, standard_form
from minialex.exchange.portable import PortableModel, colour_statistics, image_statistics
from minialex.exchange.same_network import same_function
from minialex.models import Model, registry
from minialex.models.recipe import Recipe

NETWORK = "minialex.network"
PREPROCESSING = "minialex.preprocessing"
DATA = "minialex.data"
CLASS_NAMES, CLASS_IDS = "class_names", "class_ids"
MEAN_IMAGE = "minialex.mean_image"  # float32 (S, S, C), 0 to 255, in base64
OLD_MEAN_IMAGE = "mean_image"  # the same as a tensor, in state dicts of earlier versions


def described(portable: PortableModel) -> dict[str, str]:
    """Network, preprocessing and classes: everything but the weights.

    A mean image is a text too: as a tensor, it would be one more than the network has in PyTorch.
    """
    model = portable.model
    network = {"name": model.name, "classes": model.classes, "options": model.options}
    if model.source:
        network["source"] = model.source
    recipe = asdict(portable.preprocessing.recipe)
    colour = mean_colour(portable)
    found = {
        NETWORK: network,
        PREPROCESSING: {"recipe": recipe, "mean": None if colour is None else colour.tolist()},
        CLASS_NAMES: portable.class_names,
        CLASS_IDS: portable.class_ids,
        DATA: portable.data or None,
    }
    texts = {key: json.dumps(value) for key, value in found.items() if value is not None}
    if colour is None:
        content = np.ascontiguousarray(portable.preprocessing.mean, "<f4").tobytes()
        texts[MEAN_IMAGE] = base64.b64encode(content).decode()
    return texts


def mean_colour(portable: PortableModel) -> np.ndarray | None:
    """The colour (C,) that is subtracted everywhere; None if the mean is an image."""
    mean = portable.preprocessing.mean
    return None if np.any(mean != mean[0, 0]) else mean[0, 0]


@dataclass(frozen=True)
class Description:
    """What `described` wrote, read again."""

    model: Model
    recipe: Recipe
    colour: tuple[float, ...] | None
    mean_image: np.ndarray | None
    class_names: tuple[str, ...] | None
    class_ids: tuple[str, ...] | None
    data: dict[str, Any]

    def preprocessing(self, tensor: np.ndarray | None = None) -> Preprocessing:
        """The preprocessing; `tensor` is the mean image of a file of earlier versions."""
        if self.colour is not None:
            return Preprocessing(self.recipe, colour_statistics(self.recipe.resize, self.colour))
        mean_image = tensor if self.mean_image is None else self.mean_image
        if mean_image is None or mean_image.ndim != 3:
            raise InputError("the file says that it has a mean image, but it has none")
        return Preprocessing(self.recipe, image_statistics(mean_image))


def read(path: Path, about: Mapping[str, str]) -> Description:
    """The description in a file's metadata; InputError if it is damaged."""
    try:
        network = json.loads(about[NETWORK])
        source = network.get("source")
        name = registry.require(path, network["name"], source) if source else network["name"]
        model = models.stored(name, int(network["classes"]), dict(network["options"]))
        preprocessing = json.loads(about[PREPROCESSING])
        recipe = Recipe(**preprocessing["recipe"])
        colour = preprocessing["mean"]
        if colour is not None:
            colour = tuple(float(value) for value in colour)
            if len(colour) != model.network.input_shape[2]:
                raise InputError(f"it has a mean of {len(colour)} channels")
        if not 1 <= recipe.crop <= recipe.resize <= 4096:
            raise InputError(f"it resizes to {recipe.resize} and crops {recipe.crop}")
        data = json.loads(about.get(DATA, "{}"))
        if not isinstance(data, dict):
            raise InputError("its data record is not an object")
        names, ids = _texts(about, CLASS_NAMES), _texts(about, CLASS_IDS)
        image = _mean_image(about, recipe.resize)
        return Description(model, recipe, colour, image, names, ids, data)
    except registry.NotKnown:
        raise
    except (
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        ArithmeticError,
        RecursionError,
    ) as error:
        said = f"no {error}" if isinstance(error, KeyError) else reason(error)
        raise InputError(f"{path} has a damaged description of its network ({said})") from None


def require_named(path: Path, described: Model, as_model: str | None) -> None:
    """Raise InputError if the user named a network other than the one that a file describes.

    The described one may be in the form of other programs, and then has no name of its own.
    """
    if as_model is None or as_model == described.name:
        return
    named = standard_form(models.get(as_model, described.classes).network)
    if not same_function(split_scale(named)[1], split_scale(described.network)[1]):
        raise InputError(f"{path} describes a network other than {as_model}: leave out --as")


def _mean_image(about: Mapping[str, str], size: int) -> np.ndarray | None:
    if MEAN_IMAGE not in about:
        return None
    content = base64.b64decode(about[MEAN_IMAGE], validate=True)
    return np.frombuffer(content, "<f4").reshape(size, size, -1)


def _texts(about: Mapping[str, str], key: str) -> tuple[str, ...] | None:
    if key not in about:
        return None
    found: Any = json.loads(about[key])
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise InputError(f"{key} is not a list of strings")
    return tuple(found)
