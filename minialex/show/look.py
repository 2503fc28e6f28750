"""One photograph in one network: its crops, its answers, and every layer's output."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from minialex.data.decode.images import load_reduced, resize_and_crop
from minialex.inference.classifier import Classifier
from minialex.inference.filters import tower_count
from minialex.inference.predictions import Prediction, top_classes
from minialex.inference.trained_model import softmax
from minialex.layers import Conv2D, Dense, Layer
from minialex.saliency import activations

_LONGEST = 3  # times the shorter side: more of a panorama is not shown


@dataclass(frozen=True)
class Photo:
    """An image as the network's recipe resizes it, and the whole of it if it comes from a file.

    `whole` has the square's scale and `square` is its centre; None where they are the same.
    """

    name: str
    square: np.ndarray  # uint8 (S, S, 3)
    whole: np.ndarray | None = None


def photo(source: Any, name: str, size: int) -> Photo:
    """Read a file, a path's or its bytes, by the rules for all images; InputError if it is none."""
    from PIL import Image

    pixels = load_reduced(source, size, name)
    square = resize_and_crop(pixels, size)
    if type(size) is not int:  # another rule than "shorter side, then the centre"
        return Photo(name, square)
    height, width = pixels.shape[:2]
    scale = size / min(height, width)
    if max(height, width) * scale > _LONGEST * size or height == width:
        return Photo(name, square)
    to = (round(width * scale), round(height * scale))
    resized = Image.fromarray(pixels).resize(to, Image.Resampling.BICUBIC, reducing_gap=2)
    return Photo(name, square, np.asarray(resized))


@dataclass(frozen=True)
class Block:
    """A layer with weights and those that follow it, up to the next one."""

    layers: tuple[tuple[str, Layer], ...]

    @property
    def name(self) -> str:
        """The first layer's name."""
        return self.layers[0][0]


@dataclass(frozen=True)
class Look:
    """A classifier and a photograph; what they give is computed when it is first asked for."""

    classifier: Classifier
    photo: Photo

    @property
    def image(self) -> np.ndarray:
        """The resized photograph, uint8 (S, S, 3)."""
        return self.photo.square

    @property
    def towers(self) -> int:
        """How many towers the network has."""
        return tower_count(self.classifier)

    @cached_property
    def outputs(self) -> dict[str, np.ndarray]:
        """Every layer's output for the centre crop, (P, Q, K) or (K,)."""
        found = activations(self.classifier.trained, self.image[None])
        return {name: y[0] for name, y in found.items()}

    @cached_property
    def crop_probabilities(self) -> np.ndarray:
        """Of each of the ten views, or of the five that are not mirrored: (10, classes)."""
        model = self.classifier.trained
        views = self.classifier.preprocessing.views(10)
        return np.concatenate([softmax(model.scores(self.image[None], view)) for view in views])

    @property
    def crops_said(self) -> str:
        """How many crops are averaged, in words."""
        return "ten crops" if self.classifier.preprocessing.recipe.mirror else "five crops"

    @cached_property
    def probabilities(self) -> np.ndarray:
        """Of the centre crop: (classes,)."""
        return self.classifier.trained.probabilities(self.image[None])[0]

    @property
    def label(self) -> int:
        """The most probable class of the centre crop."""
        return int(np.argmax(self.probabilities))

    def top(self, probabilities: np.ndarray, count: int = 5) -> list[Prediction]:
        """The most probable classes of one row of probabilities."""
        return top_classes(probabilities[None], self.classifier.class_names, count)[0]

    def crop(self, view: tuple[int, int, bool] | None = None) -> np.ndarray:
        """The pixels that the network sees (the centre crop's by default), uint8."""
        [centre] = self.classifier.preprocessing.views(1)
        top, left, mirrored = view or centre
        side = self.classifier.preprocessing.recipe.crop
        pixels = self.image[top : top + side, left : left + side]
        return pixels[:, ::-1] if mirrored else pixels


def blocks(layers: Sequence[tuple[str, Layer]]) -> list[Block]:
    """A network's layers, divided before each convolution and each dense layer."""
    found: list[list[tuple[str, Layer]]] = []
    for name, layer in layers:
        if isinstance(layer, Conv2D | Dense) or not found:
            found.append([])
        found[-1].append((name, layer))
    return [Block(tuple(one)) for one in found]
