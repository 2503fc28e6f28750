"""Top-1 and top-5 error over a data set, on the centre crop or on ten crops (section 4.1)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from minialex import backends
from minialex.data.dataset import Dataset
from minialex.data.loading.loader import Loader
from minialex.errors import InputError
from minialex.inference.trained_model import TrainedModel, softmax
from minialex.losses import Loss, SoftmaxCrossEntropy
from minialex.models.recipe import Recipe
from minialex.parallel.world import World

FEW_CLASSES = 10  # with fewer, top-5 accuracy is meaningless


def accuracy_interval(right: float, images: int) -> tuple[float, float]:
    """The 95% interval of an accuracy measured on `images` images (Wilson's score interval)."""
    z2 = 1.959964**2
    share = right / images
    centre = share + z2 / (2 * images)
    half = (z2 * (share * (1 - share) + z2 / (4 * images)) / images) ** 0.5
    low, high = centre - half, centre + half
    return max(0.0, low / (1 + z2 / images)), min(1.0, high / (1 + z2 / images))


@dataclass(frozen=True)
class Evaluation:
    """Errors are fractions in 0 … 1; `loss` is the cross-entropy of the averaged probabilities.

    `crops` is the number of crops that were averaged. `skipped` gives the reason for each
    unreadable image; `note` says which images are missing or were left out because the network was
    trained on them, and if crops were not mirrored; `remarks` says what the data set's reader
    left out, one line per reason.
    """

    images: int
    top1_error: float
    top5_error: float
    loss: float
    crops: int
    recipe_line: str
    skipped: dict[str, str]
    note: str = ""
    remarks: tuple[str, ...] = ()
    classes: int = 1000

    @property
    def accuracy(self) -> float:
        """The top-1 accuracy."""
        return 1 - self.top1_error

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% confidence interval of the accuracy."""
        return accuracy_interval(round(self.accuracy * self.images), self.images)

    def __str__(self) -> str:
        low, high = self.interval
        text = (
            f"accuracy {self.accuracy:.2%} (95% interval {low:.1%} to {high:.1%}), top-1 error "
            f"{self.top1_error:.2%}"
        )
        if self.classes >= FEW_CLASSES:
            text += f", top-5 error {self.top5_error:.2%}"
        text += f" on {self.images:,} images ({self.recipe_line})"
        if self.skipped:
            text += f"; {self.unreadable()} skipped"
        return "; ".join(filter(None, (text, self.note, *self.remarks)))

    def unreadable(self) -> str:
        """How many images could not be read, in words."""
        return f"{len(self.skipped):,} unreadable image{'s' * (len(self.skipped) != 1)}"


@dataclass(frozen=True)
class Probabilities:
    """Class probabilities of the readable images of a data set."""

    indices: np.ndarray  # in the data set, ascending: (N,)
    probabilities: np.ndarray  # float64 (N, K)


OnImages = Callable[[Sequence[str], np.ndarray, np.ndarray], object]
"""Called with some images' names, labels (n,) and class probabilities (n, K)."""


def described(dataset: Dataset, indices: np.ndarray) -> list[str]:
    """Where the images at `indices` come from."""
    return [dataset.describe(int(index)) for index in indices]


def evaluate_model(
    model: TrainedModel,
    dataset: Dataset,
    *,
    crops: int = 1,
    batch_size: int = 128,
    labels: np.ndarray | None = None,
    loader: Loader | None = None,
    recipe_line: str = "",
    on_batch: Callable[[int], object] | None = None,
    note: str = "",
    loss: Loss | None = None,
    on_images: OnImages | None = None,
    world: World = World(),  # noqa: B008  it has no state
) -> Evaluation:
    """Errors of `model` on every readable image of `dataset`, each counted once.

    `labels` maps the data set's labels to the model's, if they differ; `on_batch` is called with
    the number of images in each finished batch, `on_images` with their results. The result's `loss`
    is the cross-entropy, or `loss` on the centre crop's scores, which excludes `on_images`. The
    ranks of `world` share out the batches; all get the same result.
    """
    loader = loader or Loader(dataset, model.preprocessing.recipe.image_size, cache_bytes=0)
    found: list[tuple[int, np.ndarray]] = []  # of each batch: images, sums
    starts = range(0, len(dataset), batch_size)
    own = [starts[i] for i in world.share(len(starts))]
    spans = [(start, min(start + batch_size, len(dataset))) for start in own]
    for batch in loader.batches(np.arange(len(dataset)), batch_size, spans=spans):
        truth = batch.labels if labels is None else labels[batch.labels]
        if loss is None or isinstance(loss, SoftmaxCrossEntropy):
            p = model.probabilities(batch.images, crops)
            found.append((len(truth), _sums(p, truth)))
            if on_images is not None:
                on_images(described(dataset, batch.indices), truth, p)
        else:
            found.append((len(truth), _sums_with(loss, model, batch.images, truth)))
        if on_batch is not None:
            on_batch(len(truth))
    images, sums = 0, np.zeros(3)
    for of_batch, one in chain(*world.gather(found)):
        images, sums = images + of_batch, sums + one
    remarks, classes = tuple(loader.dataset.remarks.lines()), model.network.classes
    used = len(model.preprocessing.views(crops))
    return _evaluation(images, sums, used, recipe_line, loader.skipped, note, remarks, classes)


def unmirrored(recipes: Sequence[Recipe], crops: int) -> str:
    """A sentence if networks with these recipes do not get mirrored crops; else empty."""
    count = sum(not recipe.mirror for recipe in recipes) if crops > 1 else 0
    if count == 0:
        return ""
    if count < len(recipes):
        return f"5 crops, not mirrored, for {count} of the networks: trained without mirroring"
    were = "network was" if count == 1 else "networks were"
    return f"5 crops, not mirrored: the {were} trained without mirroring"


def predict_dataset(
    model: TrainedModel,
    loader: Loader,
    crops: int,
    *,
    batch_size: int = 128,
    on_batch: Callable[[int], object] = lambda images: None,
) -> Probabilities:
    """Class probabilities of all readable images of `loader`'s data set."""
    indices, found = [np.zeros(0, np.int64)], [np.zeros((0, model.network.classes))]
    for batch in loader.batches(np.arange(len(loader.dataset)), batch_size):
        found.append(model.probabilities(batch.images, crops))
        indices.append(batch.indices)
        on_batch(len(batch))
    return Probabilities(np.concatenate(indices), np.concatenate(found))


def evaluate_probabilities(
    p: np.ndarray,
    labels: np.ndarray,
    crops: int,
    recipe_line: str,
    skipped: dict[str, str],
    note: str = "",
    remarks: tuple[str, ...] = (),
) -> Evaluation:
    """Errors of class probabilities (N, K) that are already computed, with labels (N,)."""
    sums = _sums(p, labels)
    return _evaluation(len(labels), sums, crops, recipe_line, skipped, note, remarks, p.shape[1])


def ranks(p: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The rank of the true class: (N, K), (N,) -> (N,), 0 for a correct top-1.

    Among equal probabilities the lower class index ranks first; NaN ranks above everything.
    """
    own = np.take_along_axis(p, labels[:, None], axis=1)
    above = ~(p <= own)
    tied_before = (p == own) & (np.arange(p.shape[1]) < labels[:, None])
    return np.sum(above | tied_before, axis=1)


def _sums(p: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Top-1 errors, top-5 errors and cross-entropy, each summed over the images."""
    rank = ranks(p, labels)
    own = np.take_along_axis(p, labels[:, None], axis=1)
    # 1e-45: a probability that underflowed to zero gives a large, finite loss
    loss = -float(np.sum(np.log(np.maximum(own, 1e-45))))
    return np.array([np.sum(rank >= 1), np.sum(rank >= 5), loss])


def _sums_with(
    loss: Loss, model: TrainedModel, images: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    """`_sums` on the centre crop, with a different loss."""
    [view] = model.preprocessing.views(1)
    scores = model.scores(images, view)
    mean, _ = loss(backends.get("numpy"), scores, labels)
    return np.array([*_sums(softmax(scores), labels)[:2], float(mean) * len(labels)])


def _evaluation(
    images: int,
    sums: np.ndarray,
    crops: int,
    recipe_line: str,
    skipped: dict[str, str],
    note: str,
    remarks: tuple[str, ...],
    classes: int,
) -> Evaluation:
    if images == 0:
        raise InputError("none of the images to evaluate on can be read: give other images")
    top1, top5, loss = (float(total) / images for total in sums)
    errors = (top1, top5, loss)
    return Evaluation(images, *errors, crops, recipe_line, skipped, note, remarks, classes)
