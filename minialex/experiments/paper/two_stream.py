"""Two-stream video networks: one sees a frame, one sees optical flow, and their mean decides.

    minialex reproduce two-stream --data imagenette

Needs `pip install 'minialex[video]'`. The clips are made from the photographs, or from the built-in
drawings: in the first set only motion tells the classes apart, in the second a class is an
appearance and a motion (Simonyan & Zisserman, 2014). `python -m minialex.video FOLDER` trains on
video files.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from minialex.experiments import (
    PUBLISHED,
    Claim,
    Context,
    Figure,
    Section,
    Table,
    measured,
    paired,
)
from minialex.experiments.data import Data
from minialex.experiments.published import top1
from minialex.experiments.report.figures import COLOURS
from minialex.experiments.report.section import Value
from minialex.video.clips import ClipSplits, require_opencv, spatial, temporal
from minialex.video.moving import mixed, motions_only
from minialex.video.two_stream import Streams, judge, temporal_options

ORDER = 7
TITLE = "Two streams for video"
MOTION, MIXED = "only motion differs", "appearance and motion"
STREAMS = ("spatial", "temporal", "fused")


class Outcome(NamedTuple):
    """Top-1 errors in percent, the number of classes, and the recipe in a line."""

    errors: dict[str, float]  # by stream
    classes: int
    recipe_line: str


def run(context: Context) -> Section:
    """Train both streams on both sets with every seed; evaluate on clips of other photographs."""
    photographs = context.photographs()
    count = context.pick(tiny=48, small=1200, full=9600)
    model = context.pick(tiny="stream-48", small="stream-48", full="cnn-m-2048")
    settings: dict[str, Any] = {
        "model": model,
        "epochs": context.epochs(tiny=1, small=16, full=60),
        "batch_size": context.pick(tiny=16, small=32, full=256),
        "lr": context.pick(tiny=0.01, small=0.003, full=0.01),
    }
    make = {MOTION: motions_only, MIXED: mixed}

    @cache
    def clips(name: str, seed: int) -> ClipSplits:
        return make[name](photographs.splits, count, seed=seed)

    def one(name: str, seed: int) -> Outcome:
        splits = clips(name, seed)
        about = {"clips": name, "train": count, "val": len(splits.val), "seed": seed}
        runs = []
        for stream, images in (("spatial", spatial(splits)), ("temporal", temporal(splits))):
            more: dict[str, Any] = {}
            if stream == "temporal":
                more["model_options"] = temporal_options(model)
            key = {**about, "stream": stream, "of": photographs.key, "name": name}
            runs.append(
                context.train(
                    f"{stream} stream, {name}",
                    Data(images, key),
                    seed=seed,
                    require=require_opencv,
                    **more,
                    **settings,
                )
            )

        def compute(_folder: Path) -> list[float]:
            streams = Streams(runs[0].classifier(), runs[1].classifier())
            # five crops: mirrored, left would be right
            result = judge(streams, splits.val, crops=5)
            return [100 * getattr(result, stream) for stream in STREAMS]

        key = {"judged": STREAMS, "crops": 5, "of": [run.settings for run in runs]}
        errors = context.cached(f"both streams, {name}, seed {seed}", key, compute, require_opencv)
        return Outcome(
            dict(zip(STREAMS, errors, strict=True)),
            len(splits.train.class_ids),
            runs[0].recipe_line(),
        )

    outcomes = context.by_seed(make, context.seeds(), one)
    lines = [
        f"{count} generated training clips and {count // 2} validation clips in each set, a new "
        f"set for each seed, made from {photographs.line}",
        "five crops of each clip: its mirror image would belong to another class",
    ]
    return report(lines, outcomes)


def report(lines: Sequence[str], outcomes: Mapping[str, Mapping[int, Outcome]]) -> Section:
    """The errors of the streams and of their mean on each set, and their differences."""
    rows: list[tuple[Value, ...]] = []
    findings = []
    claims: list[Claim] = []
    for name, by_seed in outcomes.items():
        error: dict[str, dict[int, float]] = {
            stream: {seed: outcome.errors[stream] for seed, outcome in by_seed.items()}
            for stream in STREAMS
        }
        classes = next((outcome.classes for outcome in by_seed.values()), None)
        rows.append((name, classes, *(measured(error[stream]) for stream in STREAMS)))
        for better, worse in expected(name):
            change = paired(error[better], error[worse])
            claims.append(
                Claim(
                    f"Clips where {described(name)}: {in_words(better)} better than "
                    f"{in_words(worse)}",
                    f"{top1(f'ucf {better}') - top1(f'ucf {worse}'):+.1f}",
                    change,
                    -1,
                )
            )
            if change is not None:
                findings.append(
                    f"Clips where {described(name)}: {change.text()} points of top-1 error, "
                    f"{in_words(better)} compared with {in_words(worse)}: "
                    f"{change.verdict_below()}."
                )
    published = (top1(f"ucf {stream}") for stream in STREAMS)
    rows.append(("published: UCF-101, mean of three splits", 101, *published))
    recipes = [outcome.recipe_line for by_seed in outcomes.values() for outcome in by_seed.values()]
    columns = ("clips", "classes", *(f"{stream}, top-1 error, %" for stream in STREAMS))
    source = PUBLISHED["ucf fused"].source
    caption = (
        f"Top-1 errors of both streams and of their mean. Published: {source}, on real videos, "
        "with a spatial stream pre-trained on ImageNet."
    )
    return Section(
        [*lines, *recipes[:1]],
        findings,
        [Table("two-stream", caption, columns, rows)],
        [
            Figure(
                "streams",
                "Top-1 error of each stream and of their mean, a dot for each seed; the line is "
                "the mean over seeds.",
                "For each set of clips three columns of dots: spatial, temporal and fused.",
                lambda figure: draw(figure, outcomes),
            )
        ],
        claims,
    )


def expected(name: str) -> list[tuple[str, str]]:
    """(better, worse) pairs of streams on a set of clips."""
    if name == MOTION:
        return [("temporal", "spatial")]
    return [("fused", "spatial"), ("fused", "temporal")]


def described(name: str) -> str:
    return name if name == MOTION else "a class is an appearance and a motion"


def in_words(stream: str) -> str:
    return "both streams together" if stream == "fused" else f"the {stream} stream"


def draw(figure: Any, outcomes: Mapping[str, Mapping[int, Outcome]]) -> None:
    """A dot for each seed, by set and stream."""
    panels = figure.subplots(1, len(outcomes), sharey=True)
    for axes, (name, by_seed) in zip(panels, outcomes.items(), strict=True):
        for x, stream in enumerate(STREAMS):
            values = [outcome.errors[stream] for outcome in by_seed.values()]
            axes.plot([x] * len(values), values, "o", color=COLOURS[0], alpha=0.6)
            if values:
                mean = sum(values) / len(values)
                axes.plot([x - 0.2, x + 0.2], [mean, mean], color=COLOURS[1])
        axes.set_xticks(range(len(STREAMS)), STREAMS)
        axes.set(title=name, xlim=(-0.5, len(STREAMS) - 0.5), ylim=(0, 100))
    panels[0].set(ylabel="top-1 error, %")
