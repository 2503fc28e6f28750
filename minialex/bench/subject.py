"""What is timed: a network with initial weights on random images, or trained, on photographs."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from minialex import backends
from minialex.data.loading.loader import Loader
from minialex.data.sources.open import open_data
from minialex.errors import InputError
from minialex.inference.classifier import load
from minialex.models import Model
from minialex.tree import Tree, map_tree


@dataclass(frozen=True)
class Subject:
    """A network, its weights on the host, and its input; initial and random where they are None.

    `photographs` are (N, H, W, C), float32, as the network takes them; `title` names both.
    """

    model: Model
    weights: Tree | None = None
    photographs: np.ndarray | None = None
    title: str = ""

    @cached_property
    def params(self) -> Tree:
        """The weights, on the host."""
        if self.weights is not None:
            return self.weights
        return self.model.network.init(backends.get("numpy"))

    def images(self, batch: int) -> np.ndarray:
        """A batch of images, float32 (N, H, W, C)."""
        if self.photographs is None:
            shape = self.model.network.input_shape
            return np.random.default_rng(0).standard_normal((batch, *shape), np.float32)
        if batch > len(self.photographs):
            raise InputError(f"{len(self.photographs)} photographs for a batch of {batch}")
        return self.photographs[:batch]


def trained(run: str | Path, data: str | Path, images: int) -> Subject:
    """The network of a run or weight file, on the centre crops of up to `images` photographs.

    They are validation photographs, if there are any, from all over the list.
    """
    classifier, splits = load(run, "numpy"), open_data(data)
    held_out = splits.val if splits.val is not None and len(splits.val) else splits.train
    chosen = np.linspace(0, len(held_out) - 1, min(images, len(held_out))).astype(int)
    preprocessing, b = classifier.preprocessing, backends.get("numpy")
    loader = Loader(held_out, preprocessing.recipe.resize, cache_bytes=0)
    [view] = preprocessing.views(1)
    crops = [
        preprocessing.test_input(b, batch.images, view, "float32")
        for batch in loader.batches(chosen, 32)
    ]
    weights = map_tree(classifier.devices.to_numpy, classifier.params)
    title = f"weights of {run} on photographs of {data}"
    return Subject(classifier.model, weights, np.concatenate(crops), title)
