"""Two networks, one on frames and one on optical flow, and the mean of their predictions."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from minialex.data.dataset import Splits
from minialex.data.preprocessing import Preprocessing
from minialex.errors import InputError
from minialex.inference.classifier import Classifier
from minialex.inference.evaluation import ranks
from minialex.models import get
from minialex.training.result import Result
from minialex.training.train import train
from minialex.utils.cores import usable_cores
from minialex.utils.paths import expanded
from minialex.video.clips import Clips, ClipSplits, Flows, Frames, require_opencv, spatial, temporal

# Model options of the temporal stream besides its 20 input channels.
_TEMPORAL: dict[str, dict[str, Any]] = {"cnn-m-2048": {"second_norm": False, "keep": 0.1}}
_BATCH = 64  # pieces of clips in one batch


@dataclass(frozen=True)
class Streams:
    """The two trained networks, and the method that computes their flow."""

    spatial: Classifier
    temporal: Classifier
    method: str = "farneback"


@dataclass(frozen=True)
class Evaluation:
    """Top-1 errors (0 … 1) of each stream and of their mean on the same clips."""

    spatial: float
    temporal: float
    fused: float
    probabilities: np.ndarray  # float64 (N, K), fused
    labels: np.ndarray  # int64 (N,)
    skipped: dict[str, str] = field(default_factory=dict)  # unreadable clips, with the reason

    def __str__(self) -> str:
        text = (
            f"top-1 error over {len(self.labels):,} clips: spatial {self.spatial:.2%}, "
            f"temporal {self.temporal:.2%}, fused {self.fused:.2%}"
        )
        if self.skipped:
            text += f"; {len(self.skipped)} unreadable clips skipped:"
        return "\n".join(
            (text, *(f"  {r if n in r else f'{n}: {r}'}" for n, r in self.skipped.items()))
        )


def temporal_options(model: str) -> dict[str, Any]:
    """`model_options` of the temporal stream: two input channels per flow field, and the
    differences that the paper describes."""
    options = {"channels": Flows.channels, **_TEMPORAL.get(model, {})}
    get(
        model, 2, **options
    )  # fails now, not after hours of training, if the model takes no channels
    return options


def train_streams(
    splits: ClipSplits,
    *,
    model: str = "stream-48",
    method: str = "farneback",
    out: str | Path,
    go_on: bool = False,
    **settings,
) -> Streams:
    """Train both streams by `minialex.train`, in out/spatial and out/temporal.

    `settings` are its keyword arguments, for both; `resume=True` resumes both, `go_on` only those
    that were started before.
    """
    require_opencv()
    out, options = expanded(out), temporal_options(model)
    if settings.get("mirror"):
        raise InputError("mirroring would not negate the x components of flow: leave out `mirror`")
    frames, flows = spatial(splits), temporal(splits, method)

    def one(name: str, images: Splits, **more: Any) -> Result:
        started = go_on and (out / name / "last.safetensors").exists()
        resume = started or settings.get("resume", False)
        given = {"recipe": "published", **settings, **more, "resume": resume}
        return train(images, out=out / name, model=model, **given)

    first = one("spatial", frames)
    if first.interrupted:
        raise KeyboardInterrupt
    second = one("temporal", flows, model_options=options)
    return Streams(first.classifier, second.classifier, method)


def judge(streams: Streams, clips: Clips, crops: int = 1, pieces: int = 1) -> Evaluation:
    """Evaluate both streams and the mean of their class probabilities.

    Each stream averages over `pieces` pieces of a clip (the paper: 25) and over `crops`: the centre
    (1), with the four corners (5), or with their mirror images too (10, as in the paper), which is
    right only if mirroring does not change the class. Unreadable clips are left out, as in
    training, and listed in the result.
    """
    skipped: dict[int, str] = {}
    seen = _answers(streams.spatial, Frames(clips), crops, pieces, Views, skipped)
    flows = Flows(clips, streams.method)
    moved = _answers(streams.temporal, flows, crops, pieces, FlowViews, skipped)
    read = np.array([index not in skipped for index in range(len(clips))], bool)
    if not read.any():
        reason = next(iter(skipped.values()), "there is none")
        raise InputError(f"no clip of {clips.name!r} can be read ({reason})")
    seen, moved, labels = seen[read], moved[read], clips.labels[read]
    fused = (seen + moved) / 2
    one, other, both = (float(np.mean(ranks(p, labels) >= 1)) for p in (seen, moved, fused))
    reasons = {clips.describe(index): reason for index, reason in sorted(skipped.items())}
    return Evaluation(one, other, both, fused, labels, reasons)


class Views(Preprocessing):
    """Preprocessing that also offers five crops: the ten without their mirror images."""

    def views(self, crops: int) -> list[tuple[int, int, bool]]:
        """(top, left, mirrored) of 1, 5 or 10 crops."""
        if crops == 10:
            return self.ten_views()
        return self.ten_views()[:5] if crops == 5 else super().views(crops)


class FlowViews(Views):
    """The same for flow: mirroring also negates the x components."""

    def test_input(self, b, images, view: tuple[int, int, bool], dtype):
        """One view of every stack (N, S, S, 20); a mirrored one has its x components negated."""
        x = super().test_input(b, images, view, dtype)
        if not view[2]:
            return x
        return x * b.asarray(np.tile([-1, 1], x.shape[-1] // 2).astype(np.float32)).astype(x.dtype)


def _answers(
    classifier: Classifier,
    view: Frames | Flows,
    crops: int,
    pieces: int,
    kind: type[Views],
    skipped: dict[int, str],
) -> np.ndarray:
    """Class probabilities of each clip, averaged over its pieces and crops: (N, K).

    Rows of unreadable clips are 0, and the reasons are added to `skipped`.
    """
    if pieces < 1:
        raise InputError(f"pieces is {pieces}: it must be at least 1")
    clips, of_classifier = view.clips, classifier.preprocessing
    preprocessing = kind(of_classifier.recipe, of_classifier.statistics)
    model = replace(classifier.trained, preprocessing=preprocessing)
    size = preprocessing.recipe.resize
    preprocessing.views(crops)  # InputError for an unknown number of crops
    total = np.zeros((len(clips), classifier.model.classes))

    def inputs(index: int) -> list[np.ndarray]:
        try:
            return [view.of(frames) for frames in clips.pieces(index, size, pieces)]
        except (InputError, OSError) as error:
            skipped[index] = str(error)
            return []

    with ThreadPoolExecutor(usable_cores()) as threads:
        step = max(1, _BATCH // pieces)
        for start in range(0, len(clips), step):
            indices = range(start, min(start + step, len(clips)))
            found = dict(zip(indices, threads.map(inputs, indices), strict=True))
            read = [index for index in indices if found[index]]
            if not read:
                continue
            p = model.probabilities(np.stack([x for index in read for x in found[index]]), crops)
            ends = np.cumsum([len(found[index]) for index in read])[:-1]
            total[read] = [part.mean(axis=0) for part in np.split(p, ends)]
    return total
