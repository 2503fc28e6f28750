"""Ensembles: the weighted mean of several networks' class probabilities (paper, table 2)."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from minialex.data.dataset import Dataset
from minialex.errors import InputError
from minialex.inference import given_images
from minialex.inference.classifier import Classifier, load_on
from minialex.inference.evaluation import (
    Evaluation,
    OnImages,
    described,
    evaluate_probabilities,
    predict_dataset,
    ranks,
    unmirrored,
)
from minialex.inference.given_images import Batch, Image
from minialex.inference.judged_images import cropped_before, data_key, images_to_judge, learnt
from minialex.inference.predictions import Prediction, answers
from minialex.parallel import DeviceConfig
from minialex.utils.arguments import Number, integer, wrong
from minialex.utils.composed import all_composed

_WEIGHT = Number(float, at_least=0)
STEP = 0.05  # of the search for weights; as in the original
PASSES = 5


@dataclass(frozen=True)
class Ensemble:
    """`predict` and `evaluate` of several networks with the same classes, averaged.

    `weights` (default: equal) are normalised to a sum of 1. Members may have their classes in
    different orders; results use the first member's. `note` says which images `with_found_weights`
    found the weights on, and `found_on` has their names.
    """

    members: tuple[Classifier, ...]
    weights: tuple[float, ...] = ()
    note: str = field(default="", compare=False)  # on the images that the weights were found on
    found_on: frozenset[str] = field(default=frozenset(), repr=False, compare=False)
    _columns: tuple[np.ndarray, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "members", tuple(self.members))
        if not self.members:
            raise InputError("an ensemble needs at least one network: give its weight files")
        for member in self.members:
            if not isinstance(member, Classifier):
                raise wrong("a member", member, "a classifier, as minialex.load returns it")
        weights = tuple(_WEIGHT.check("a weight", one) for one in self.weights)
        weights = weights or (1.0,) * len(self.members)
        if len(weights) != len(self.members):
            raise InputError(
                f"{len(weights)} weights for {len(self.members)} networks: give one for each"
            )
        total = sum(weights)
        if not total:
            raise InputError("all weights are 0: give one above 0")
        object.__setattr__(self, "weights", tuple(w / total for w in weights))
        object.__setattr__(self, "_columns", tuple(map(self._order, self.members)))

    def _order(self, member: Classifier) -> np.ndarray:
        """The index in `member` of each of the first member's classes."""
        ours, theirs = all_composed(self.class_ids), all_composed(member.class_ids)
        if set(ours) != set(theirs):
            odd = sorted(set(ours) ^ set(theirs))
            raise InputError(
                f"the networks have different classes ({', '.join(odd[:3])}"
                f"{', ...' if len(odd) > 3 else ''} {'are' if len(odd) > 1 else 'is'} not in all): "
                "choose networks that were trained on the same classes"
            )
        index = {name: k for k, name in enumerate(theirs)}
        return np.array([index[name] for name in ours])

    @property
    def class_ids(self) -> tuple[str, ...]:
        return self.members[0].class_ids

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.members[0].class_names

    @property
    def sizes(self) -> tuple[int, ...]:
        """The distinct sizes to which the members resize images."""
        return tuple(dict.fromkeys(m.preprocessing.recipe.image_size for m in self.members))

    @property
    def recipe_line(self) -> str:
        """Members and weights in one line, to print beside an accuracy."""
        lines = list(dict.fromkeys(member.recipe_line for member in self.members))
        how = "equal weights"
        if len(set(self.weights)) > 1:
            how = "weights " + ", ".join(f"{w:.3g}" for w in self.weights)
        return f"mean of {len(self.members)} networks, {how}: {'; '.join(lines)}"

    def probabilities(self, images: Image | Iterable[Image], crops: int = 1) -> np.ndarray:
        """As `Classifier.probabilities`: (N, K), classes in the first member's order."""
        return np.concatenate([batch.rows(p) for batch, p in self._probabilities(images, crops)])

    def _probabilities(
        self, images: Image | Iterable[Image], crops: int
    ) -> Iterator[tuple[Batch, np.ndarray]]:
        for batch in given_images.batches(images, self.sizes):
            yield batch, self.probabilities_at(batch.images, crops)

    def probabilities_at(self, images: dict[int, np.ndarray], crops: int = 1) -> np.ndarray:
        """The same from images that were resized to each of `sizes`: {size: (N, size, size, 3)}."""
        found = []
        for member in self.members:
            resized = images[member.preprocessing.recipe.image_size]
            found.append(member.trained.probabilities(resized, crops))
        return self._mean(self._aligned(found))

    def predict(
        self, images: Image | Iterable[Image], top: int = 5, crops: int = 1
    ) -> list[list[Prediction]]:
        """As `Classifier.predict`."""
        top = integer(1).check("top", top)
        return answers(self._probabilities(images, crops), self.class_names, top)

    def evaluate(
        self,
        data: Any = None,
        crops: int = 1,
        batch_size: int = 128,
        workers: int | None = None,
        progress: bool = False,
        on_images: OnImages | None = None,
    ) -> Evaluation:
        """As `Classifier.evaluate`; raises InputError if a member was trained on these images."""
        known = self._known(data, crops, batch_size, workers, progress)
        used = max(len(member.preprocessing.views(crops)) for member in self.members)
        line = f"{self.recipe_line}, {used} crop{'s' * (used > 1)}"
        p = self._mean(known.probabilities)
        if on_images is not None:
            on_images(known.names, known.labels, p)
        notes = known.note, self._tuned_on(known.names)
        note = "; ".join(filter(None, notes))
        return evaluate_probabilities(
            p, known.labels, used, line, known.skipped, note, known.remarks
        )

    def with_found_weights(self, data: Any = None, crops: int = 1, **options: Any) -> "Ensemble":
        """The same networks with the weights that minimise the top-5 error on `data`.

        Evaluate on other images: the error on the ones used here is too optimistic. The result's
        `note` says how many were used and what was left out.
        """
        options = {"batch_size": 128, "workers": None, "progress": False, **options}
        known = self._known(data, crops, **options)
        if not known.names:
            raise InputError(
                "none of the images to find the weights on can be read: give other images"
            )
        weights = find_weights(known.probabilities, known.labels)
        return Ensemble(self.members, weights, known.said(), frozenset(known.names))

    def _tuned_on(self, names: Sequence[str]) -> str:
        """A sentence if the weights were found on some of these images."""
        count = sum(name in self.found_on for name in names)
        if not count:
            return ""
        return (
            f"the weights were found on {count:,} of these {len(names):,} images, so the accuracy "
            "is too optimistic"
        )

    def _aligned(self, found: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Each member's probabilities, with the classes in the first member's order."""
        return [p[:, columns] for p, columns in zip(found, self._columns, strict=True)]

    def _mean(self, aligned: Sequence[np.ndarray]) -> np.ndarray:
        return weighted_sum(self.weights, aligned)

    def _known(
        self, data: Any, crops: int, batch_size: int, workers: int | None, progress: bool
    ) -> "_Known":
        """Each member's probabilities for the readable images of `data`."""
        from minialex.data.loading.loader import Loader
        from minialex.utils.progress import Progress

        first = self.members[0]
        batch_size = integer(1).check("batch_size", batch_size)
        workers = None if workers is None else integer(1).check("workers", workers)
        first.preprocessing.views(crops)  # raises for an unsupported number of crops
        judged = images_to_judge(first.data, data)
        dataset = judged.dataset
        recipes = [member.preprocessing.recipe for member in self.members]
        notes = (
            judged.note,
            self._require_unlearnt(data, dataset),
            first._matched_by_position(dataset),
            cropped_before(dataset, recipes),
            unmirrored(recipes, crops),
        )
        note = "; ".join(filter(None, notes))
        translated = first._labels(dataset)
        labels = dataset.labels if translated is None else translated[dataset.labels]
        sizes = [member.preprocessing.recipe.image_size for member in self.members]
        loaders = {  # what only one network reads need not be kept
            size: Loader(
                dataset, size, workers=workers, cache_bytes=0 if sizes.count(size) == 1 else None
            )
            for size in self.sizes
        }
        found, skipped = [], {}
        with Progress(progress).bar("evaluating", len(dataset) * len(self.members)) as bar:
            for m in self.members:
                loader = loaders[m.preprocessing.recipe.image_size]
                found.append(
                    predict_dataset(
                        m.trained, loader, crops, batch_size=batch_size, on_batch=bar.update
                    )
                )
                skipped.update(loader.skipped)
        read = found[0].indices
        for each in found[1:]:  # keep images that are readable at every size
            read = np.intersect1d(read, each.indices)
        kept = [each.probabilities[np.isin(each.indices, read)] for each in found]
        remarks = tuple(dataset.remarks.lines())
        names = described(dataset, read)
        return _Known(self._aligned(kept), labels[read], names, skipped, note, remarks)

    def _require_unlearnt(self, data: Any, dataset: Dataset) -> str:
        """Raise InputError if a member was trained on images that the first member held out.

        For a data set passed as an object, returns a sentence instead: the caller chose it.
        """
        first = self.members[0].data
        for number, member in enumerate(self.members[1:], 2):
            what = member.data.get("data")
            if data is None and what not in (None, first.get("data")):
                raise InputError(
                    f"network {number} was trained on other data ({what}) than the first "
                    f"({first.get('data')}): give the data to evaluate on"
                )
            named = data is None or data_key(data) in (what, first.get("data"))
            if member.data == first or not learnt(member.data, dataset, named=named).any():
                continue
            sentence = f"network {number} was trained on images of {what or dataset.name}"
            if data is not None and not isinstance(data, (str, Path)):
                return sentence
            raise InputError(
                f"{sentence} that the first one held out (train/val leakage; their seeds or "
                "held-out fractions differ): evaluate them on images that none was trained on"
            )
        return ""


@dataclass(frozen=True)
class _Known:
    probabilities: list[np.ndarray]  # of each member, in the first's order: (N, K)
    labels: np.ndarray  # in the first member's order, (N,)
    names: list[str]
    skipped: dict[str, str]
    note: str
    remarks: tuple[str, ...]

    def said(self) -> str:
        """How many images there are, and which were left out, in one line."""
        count, skipped = len(self.labels), len(self.skipped)
        found = f"{count:,} image{'s' * (count != 1)}"
        if skipped:
            found += f", {skipped:,} unreadable one{'s' * (skipped != 1)} left out"
        return "; ".join(filter(None, (found, self.note, *self.remarks)))


def load_ensemble(
    paths: Sequence[str | Path],
    weights: Sequence[float] | None = None,
    devices: DeviceConfig = DeviceConfig(),  # noqa: B008  frozen
) -> Ensemble:
    """The networks in weight files or run folders, all on the same devices."""
    members = tuple(load_on(path, devices) for path in paths)
    return Ensemble(members, () if weights is None else tuple(weights))


def find_weights(probabilities: Sequence[np.ndarray], labels: np.ndarray) -> tuple[float, ...]:
    """Weights of the networks' class probabilities (N, K) that minimise the top-5 error.

    The original's coordinate descent: all weights start at 0.5; each in turn takes the best of
    0, 0.05 … 1 with the others fixed; up to five passes, until one changes nothing. Ties in top-5
    error are decided by top-1 error, then by keeping the current value. Not normalised.
    """
    weights = np.full(len(probabilities), 0.5)
    grid = np.arange(0, round(1 / STEP) + 1) * STEP
    best = _cost(weighted_sum(weights, probabilities), labels)
    for _ in range(PASSES):
        before = weights.copy()
        for i, p in enumerate(probabilities):
            rest = np.where(np.arange(len(weights)) == i, 0.0, weights)
            others = weighted_sum(rest, probabilities)
            for value in grid if rest.any() else grid[1:]:
                cost = _cost(others + value * p, labels)
                if cost < best:
                    best, weights[i] = cost, value
        if np.array_equal(before, weights):
            break
    return tuple(float(w) for w in np.round(weights, 10))


def weighted_sum(weights: Sequence[float] | np.ndarray, terms: Sequence[np.ndarray]) -> np.ndarray:
    """Σ wᵢ·tᵢ over arrays of one shape."""
    total = np.zeros(terms[0].shape)
    for weight, term in zip(weights, terms, strict=True):
        total += weight * term
    return total


def _cost(p: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    rank = ranks(p, labels)
    return float(np.mean(rank >= 5)), float(np.mean(rank >= 1))
