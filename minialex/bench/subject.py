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

CALIBRATION = 4  # images that other programs calibrate their int8 on


@dataclass(frozen=True)
class Subject:
    """A network, its weights on the host, and its input.

    weights      None: initial weights
    photographs  (N, H, W, C), float32, as the network takes them; None: random images
    title        names both, if they are not those
    """

    model: Model
    weights: Tree | None = None
    photographs: np.ndarray | None = None
    title: str | None = None

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
            raise InputError(
                f"only {len(self.photographs)} photographs: choose a --batch-size of at most that"
            )
        return self.photographs[:batch]

    def at_most(self, batch: int) -> int:
        """This batch size, or that of all photographs."""
        return batch if self.photographs is None else min(batch, len(self.photographs))


def trained(run: str | Path, data: str | Path, images: int, model: str | None = None) -> Subject:
    """The network of a run or weight file, on the centre crops of `images` photographs.

    They are validation photographs, if there are any, in an order drawn at random: at least as many
    as int8 is calibrated on, and fewer if there are no more. `model` is for a network that is not
    registered, see `load`.
    """
    classifier, splits = load(run, "numpy", model=model), open_data(data)
    images = max(images, CALIBRATION)
    held_out = splits.val if splits.val is not None and len(splits.val) else splits.train
    chosen = np.random.default_rng(0).permutation(len(held_out))[:images]
    preprocessing, b = classifier.preprocessing, backends.get("numpy")
    loader = Loader(held_out, preprocessing.recipe.image_size, cache_bytes=0)
    [view] = preprocessing.views(1)
    crops = [
        preprocessing.test_input(b, batch.images, view, "float32")
        for batch in loader.batches(chosen, 32)
    ]
    if not crops:
        raise InputError(f"{held_out.name!r} has no readable image")
    weights = map_tree(classifier.devices.to_numpy, classifier.params)
    title = f"weights of {run} on photographs of {data}"
    return Subject(classifier.model, weights, np.concatenate(crops), title)
