"""The two-stream video network: one network sees a frame, one sees motion, their mean decides.

    minialex reproduce two-stream --data imagenette
    python -m minialex.experiments.paper.two_stream --videos FOLDER

Needs `pip install 'minialex[video]'`. The clips are made of the photographs given, or of the
built-in drawings: in the first set only motion tells the classes apart, in the second each class is
an appearance and a motion. With --videos, a folder of class folders of video files is learnt
instead, and printed (Simonyan & Zisserman, 2014).
"""

import argparse
import sys
from functools import cache
from pathlib import Path

from minialex.errors import InputError
from minialex.experiments import PUBLISHED, Context, Figure, Section, Table, alone, measured, paired
from minialex.experiments.data import Data
from minialex.video.clips import ClipSplits, require_opencv, spatial, temporal
from minialex.video.files import open_videos
from minialex.video.moving import mixed, motions_only
from minialex.video.two_stream import Streams, judge, temporal_options, train_streams

ORDER = 7
TITLE = "Two streams for video"
MOTION, MIXED = "only motion differs", "appearance and motion"
STREAMS = ("spatial", "temporal", "fused")


def run(context: Context) -> Section:
    """Train both streams on both sets with every seed; judge them on clips of other photographs."""
    photographs = context.photographs()
    count = context.pick(tiny=48, small=1200, full=9600)
    model = context.pick(tiny="stream-48", small="stream-48", full="cnn-m-2048")
    settings = {
        "model": model,
        "epochs": context.epochs(tiny=1, small=16, full=60),
        "batch_size": context.pick(tiny=16, small=32, full=256),
        "lr": context.pick(tiny=0.01, small=0.003, full=0.01),
    }
    make = {MOTION: motions_only, MIXED: mixed}

    @cache
    def clips(name: str, seed: int) -> ClipSplits:
        return make[name](photographs.splits, count, seed=seed)

    def one(name: str, seed: int):
        of = clips(name, seed)
        about = {"clips": name, "train": count, "val": len(of.val), "seed": seed}
        trained = []
        for stream, splits in (("spatial", spatial(of)), ("temporal", temporal(of))):
            options = {} if stream == "spatial" else {"model_options": temporal_options(model)}
            described = {**about, "stream": stream, "of": photographs.described, "name": name}
            trained.append(
                context.train(
                    f"{stream} stream, {name}",
                    Data(splits, described),
                    seed=seed,
                    require=require_opencv,
                    **options,
                    **settings,
                )
            )

        def compute(_folder):
            # five crops: in a mirror, left would be right
            found = judge(Streams(*(run.classifier() for run in trained)), of.val, crops=5)
            return [100 * getattr(found, stream) for stream in STREAMS]

        key = {"judged": STREAMS, "crops": 5, "of": [run.cell.settings for run in trained]}
        errors = context.cell(f"both streams, {name}, seed {seed}", key, compute, require_opencv)
        return *errors, len(of.train.class_ids), trained[0].recipe_line()

    found = context.by_seed(make, context.seeds(), one)
    lines = [
        f"{count} generated clips to learn from and {count // 2} to be judged by in each set, a "
        f"set a seed, of the photographs of {photographs.line}",
        "each clip is judged by five crops: its mirror image would be of another class",
    ]
    return report(lines, found)


def report(lines, found) -> Section:
    """Three errors a set, what separates them, and a picture of both."""
    rows, findings = [], []
    for name, of in found.items():
        at = {
            stream: {seed: values[i] for seed, values in of.items()}
            for i, stream in enumerate(STREAMS)
        }
        classes = next((values[3] for values in of.values()), None)
        rows.append((name, classes, *(measured(at[stream]) for stream in STREAMS)))
        for better, worse in wanted(name):
            change = paired(at[better], at[worse])
            if change is not None:
                findings.append(
                    f"Where {there(name)}, {said(better)} beside {said(worse)}: {change.text()} "
                    f"points of top-1 error. {change.verdict(expected=-1)}."
                )
    known = [PUBLISHED[f"ucf {stream}"].top1 for stream in STREAMS]
    rows.append(("published: UCF-101, mean of three splits", 101, *known))
    lines = [*lines, *(values[4] for of in found.values() for values in list(of.values())[:1])][:3]
    columns = ("clips", "classes", *(f"{stream}, top-1 error, %" for stream in STREAMS))
    source = PUBLISHED["ucf fused"].source
    caption = (
        f"Top-1 errors of both streams and of their mean. Published: {source}, of real videos, the "
        "spatial stream pre-trained on ImageNet."
    )
    return Section(
        lines,
        findings,
        [Table("two-stream", caption, columns, rows)],
        [
            Figure(
                "streams",
                "Top-1 error of each stream and of both together: a dot a seed, a line the mean.",
                "For each set of clips three columns of dots: spatial, temporal and fused.",
                lambda figure: draw(figure, found),
            )
        ],
    )


def wanted(name: str) -> list[tuple[str, str]]:
    """What must be better than what in a set of clips."""
    if name == MOTION:
        return [("temporal", "spatial")]
    return [("fused", "spatial"), ("fused", "temporal")]


def there(name: str) -> str:
    return name if name == MOTION else "a class is an appearance and a motion"


def said(stream: str) -> str:
    return "both streams together" if stream == "fused" else f"the {stream} stream"


def draw(figure, found) -> None:
    """Dots by set and stream."""
    panels = figure.subplots(1, len(found), sharey=True)
    for axes, (name, of) in zip(panels, found.items(), strict=True):
        for x, _ in enumerate(STREAMS):
            values = [row[x] for row in of.values()]
            axes.plot([x] * len(values), values, "o", color="#4477aa", alpha=0.6)
            if values:
                mean = sum(values) / len(values)
                axes.plot([x - 0.2, x + 0.2], [mean, mean], color="#cc6677")
        axes.set_xticks(range(len(STREAMS)), STREAMS)
        axes.set(title=name, xlim=(-0.5, len(STREAMS) - 0.5), ylim=(0, 100))
    panels[0].set(ylabel="top-1 error, %")


def videos(arguments: list[str]) -> None:
    """Learn a folder of video files, and judge both streams by the videos held out."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--videos", required=True, help="a folder of classes of video files")
    parser.add_argument("--model", default="stream-48", help="stream-48 or cnn-m-2048")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pieces", type=int, default=25, help="of each video, to judge it by")
    parser.add_argument("--mirrored", action="store_true", help="classes are the same in a mirror")
    parser.add_argument("--out", type=Path, default=Path("runs/two-stream"))
    options = parser.parse_args(arguments)

    try:
        splits = open_videos(options.videos, seed=options.seed)
        streams = train_streams(
            splits, model=options.model, out=options.out, epochs=options.epochs, seed=options.seed
        )
        crops = 10 if options.mirrored else 5
        print(judge(streams, splits.val, crops=crops, pieces=options.pieces))
    except (InputError, FileNotFoundError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    if "--videos" in sys.argv:
        videos(sys.argv[1:])
    else:
        raise SystemExit(alone(__file__))
