"""Two networks, one on frames and one on motion, and the mean of what they say (late fusion)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minialex.classifier import Classifier
from minialex.data.base import Dataset
from minialex.data.loader import Loader
from minialex.errors import InputError
from minialex.evaluation import probabilities, ranks
from minialex.models import get
from minialex.training import train
from minialex.video.clips import Clips, ClipSplits, Flows, Frames, spatial, temporal

# What the temporal stream's network is asked for besides its 20 channels, by model.
_TEMPORAL: dict[str, dict[str, Any]] = {"cnn-m-2048": {"second_norm": False, "keep": 0.1}}


@dataclass(frozen=True)
class Streams:
    """The two trained networks, with the method their flow was measured by."""

    spatial: Classifier
    temporal: Classifier
    method: str = "farneback"


@dataclass(frozen=True)
class Judgement:
    """Top-1 errors, shares in 0 … 1, of each stream and of both together on the same clips."""

    spatial: float
    temporal: float
    fused: float
    probabilities: np.ndarray  # float64 (N, K), fused
    labels: np.ndarray  # int64 (N,)

    def __str__(self) -> str:
        return (
            f"top-1 error over {len(self.labels):,} clips: spatial {self.spatial:.2%}, "
            f"temporal {self.temporal:.2%}, fused {self.fused:.2%}"
        )


def train_streams(
    splits: ClipSplits,
    *,
    model: str = "stream-48",
    method: str = "farneback",
    out: str | Path,
    **settings,
) -> Streams:
    """Train both streams by `minialex.train`, in out/spatial and out/temporal.

    `settings` are its keyword arguments, for both; `resume=True` goes on with both.
    """
    out = Path(out)
    frames, flows = spatial(splits), temporal(splits, method)
    options = {"channels": flows.train.channels, **_TEMPORAL.get(model, {})}  # type: ignore[attr-defined]
    get(model, 2, **options)  # a model that takes no channels is refused before hours of training
    first = train(frames, model=model, out=out / "spatial", **settings)
    if first.interrupted:
        raise KeyboardInterrupt
    second = train(flows, model=model, model_options=options, out=out / "temporal", **settings)
    return Streams(first.classifier, second.classifier, method)


def judge(streams: Streams, clips: Clips, crops: int = 1) -> Judgement:
    """Both streams' class probabilities for each clip, and their mean."""
    seen, labels = _answers(streams.spatial, Frames(clips), crops)
    moved, _ = _answers(streams.temporal, Flows(clips, streams.method), crops)
    fused = (seen + moved) / 2
    one, other, both = (float(np.mean(ranks(p, labels) >= 1)) for p in (seen, moved, fused))
    return Judgement(one, other, both, fused, labels)


def _answers(classifier: Classifier, dataset: Dataset, crops: int):
    """(N, K) and labels (N,)"""
    loader = Loader(dataset, classifier.preprocessing.recipe.resize, cache_bytes=0)
    found, labels = [], []
    for batch in loader.batches(np.arange(len(dataset)), 64):
        found.append(
            probabilities(
                classifier.backend,
                classifier.model.network,
                classifier.params,
                classifier.preprocessing,
                batch.images,
                crops=crops,
                dtype=classifier.dtype,
            )
        )
        labels.append(batch.labels)
    if loader.skipped:
        raise InputError(f"{next(iter(loader.skipped.values()))} (both streams need every clip)")
    return np.concatenate(found), np.concatenate(labels)
