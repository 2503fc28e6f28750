"""Trains only the last layers: the frozen layers' outputs are computed once per image.

The frozen layers see the paper's ten crops of every training image, as many of them as fit in
memory. Their outputs are the inputs of the trained network, and each time an image is used, one of
its crops is drawn at random.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from minialex import backends, rng
from minialex.backends.base import Array, Backend
from minialex.data.loading.loader import Batch, Loader
from minialex.data.preprocessing import CENTRES_FIRST
from minialex.errors import InputError
from minialex.inference.classifier import Classifier
from minialex.inference.evaluation import Evaluation, evaluate_probabilities
from minialex.inference.trained_model import softmax
from minialex.layers import Dropout
from minialex.losses import SoftmaxCrossEntropy
from minialex.network import Network
from minialex.parallel import Inputs
from minialex.training.feed import Tensors
from minialex.training.state import State
from minialex.training.targets import SoftTargets
from minialex.training.trainer import Trainer
from minialex.utils.progress import Progress

MOST_BYTES = 2 * 1024**3  # of outputs that are kept
AT_ONCE = 64  # images per batch; fixed, so that a resumed run computes the same bits

View = tuple[int, int, bool]


def last_frozen(network: Network, name: str) -> str:
    """The last layer whose output is fixed when all layers up to `name` are frozen.

    This includes the layers without parameters after `name`, up to the first dropout.
    """
    names = [n for n, _ in network.until(name).layers]  # raises for an unknown name
    shapes = network.parameter_shapes()
    for following, layer in network.layers[len(names) :]:
        if following in shapes or isinstance(layer, Dropout):
            break
        names.append(following)
    if not any(following in shapes for following, _ in network.layers[len(names) :]):
        raise InputError(f"freezing {name} leaves no layer to train: freeze fewer layers")
    return names[-1]


@dataclass(frozen=True)
class Features:
    """Outputs of the frozen layers: float32 (V, N, ...) for V views of N images.

    `readable` (N,) is false where an image could not be read.
    """

    values: np.ndarray
    readable: np.ndarray
    skipped: dict[str, str]


def compute(
    classifier: Classifier, layer: str, loader: Loader, most_views: int, show: Progress
) -> Features:
    """The outputs of `layer` for up to ten views of each of the loader's images."""
    count = len(loader.dataset)
    shape = classifier.model.network.until(layer).shapes()[-1]
    views = _views(
        classifier, min(most_views, MOST_BYTES // max(1, 4 * count * int(np.prod(shape))))
    )
    if not views:
        raise InputError(
            f"the outputs of {layer} for {count:,} images do not fit in memory: freeze more layers "
            "(whose outputs are smaller), or train all of them"
        )
    values = np.zeros((len(views), count, *shape), np.float32)
    readable = np.zeros(count, bool)
    with show.bar("frozen layers", count * len(views)) as bar:
        for batch in loader.batches(np.arange(count), AT_ONCE):
            readable[batch.indices] = True
            for i, view in enumerate(views):
                values[i, batch.indices] = classifier.trained.scores(batch.images, view, layer)
                bar.update(len(batch))
    return Features(values, readable, dict(loader.skipped))


def _views(classifier: Classifier, count: int) -> list[View]:
    """The centre, then its mirror image, then the others of the ten crops, as in training."""
    ten = classifier.preprocessing.ten_views()
    recipe = classifier.preprocessing.recipe
    order = CENTRES_FIRST if recipe.random_crops else CENTRES_FIRST[:2]
    return [ten[i] for i in order if recipe.mirror or not ten[i][2]][:count]


class FeatureLoader:
    """Batches whose images are features: they need no reading."""

    def __init__(self, features: Features, labels: np.ndarray):
        self.features, self.labels = features, labels
        self.skipped, self.wait_seconds = features.skipped, 0.0
        self.on_wait: Callable[[], object] | None = None

    def batches(
        self,
        order: np.ndarray,
        batch_size: int,
        first: int = 0,
        spans: Sequence[tuple[int, int]] | None = None,
    ) -> Iterator[Batch]:
        """As `Loader.batches`; the images are left to the feed."""
        if spans is None:
            starts = range(first, len(order), batch_size)
            spans = [(start, min(start + batch_size, len(order))) for start in starts]
        for start, end in spans:
            positions = np.arange(start, end)
            positions = positions[self.features.readable[order[positions]]]
            if len(positions):
                indices = order[positions]
                nothing = np.zeros((len(indices), 0, 0, 0), np.uint8)
                yield Batch(nothing, self.labels[indices], positions, indices, start, end)

    def read_ahead(self, indices: np.ndarray) -> None:
        """No-op: features are in memory."""


@dataclass(frozen=True)
class FeatureFeed(Tensors):
    """One view of each image in a batch, drawn by its position in the epoch."""

    features: Features | None = None
    seed: int = 0
    soft: SoftTargets | None = None

    def labels(self, batch: Any) -> np.ndarray:
        return batch.labels

    def targets(self, batch: Any, epoch: int) -> np.ndarray:
        return batch.labels if self.soft is None else self.soft(batch.labels, None, self.dtype)

    def inputs(self, batch: Any, epoch: int, noise: float) -> Inputs:
        assert self.features is not None
        word = rng.words(self.seed, rng.Stream.CROP, epoch, batch.positions, 1)[:, 0]
        views = rng.integers(word, len(self.features.values))
        rows = self.features.values[views, batch.indices]

        def of(b: Backend, first: int, end: int) -> Array:
            return b.asarray(rows[first:end], b.compute_dtype(self.dtype))

        return of


@dataclass(frozen=True)
class FrozenTrainer(Trainer):
    """Trains the last layers; the state and the classifier hold the whole network.

    `photographs` are the loaders of the images that the features were computed from.
    """

    val_features: Features | None = None
    photographs: tuple[Loader, Loader] | None = None

    @property
    def image_loaders(self) -> tuple[Loader, Loader]:
        assert self.photographs is not None
        return self.photographs

    def validate(self, state: State) -> Evaluation | None:
        if not len(self.splits.val):
            return None
        assert self.val_features is not None
        x = self.val_features.values[0][self.val_features.readable]
        labels = self.splits.val.labels[self.val_features.readable]
        devices, dtype = self.step.devices, self.initial.dtype
        params = self.judged(state).params

        def scores_of(part: np.ndarray) -> np.ndarray:
            def inputs(b: Backend, first: int, end: int) -> Array:
                return b.asarray(part[first:end], b.compute_dtype(dtype))

            return devices.infer(params, inputs, len(part)).astype(np.float64)

        parts = np.array_split(x, -(-len(x) // AT_ONCE))
        scores = np.concatenate([scores_of(part) for part in parts])
        found = evaluate_probabilities(softmax(scores), labels, 1, "", self.val_features.skipped)
        if isinstance(self.step.loss, SoftmaxCrossEntropy):
            return found
        loss, _ = self.step.loss(backends.get("numpy"), scores, labels)
        return replace(found, loss=float(loss))

    def log_layer_statistics(self, state: State, pretrained: bool = False) -> None:
        """No-op: the trained layers do not see images."""

    def _dead(self, state: State) -> str | None:
        return None
