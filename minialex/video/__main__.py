"""Train the two-stream network on video files: `python -m minialex.video FOLDER`.

FOLDER has a folder of video files for each class, or train/ and val/ with such folders; without
those, about 30 % of each class is held out. Repeating the command continues where it stopped. Needs
`pip install 'minialex[video]'`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from minialex.errors import InputError, TrainingError
from minialex.video.files import open_videos
from minialex.video.two_stream import judge, train_streams


def main(arguments: Sequence[str] | None = None) -> None:
    """Train both streams, and print their errors on the held-out videos."""
    parser = argparse.ArgumentParser(
        prog="python -m minialex.video",
        description="Train the two-stream network (Simonyan & Zisserman, 2014) on video files.",
    )
    parser.add_argument("folder", metavar="FOLDER", help="a folder of videos for each class")
    parser.add_argument("--model", default="stream-48", help="stream-48 (default) or cnn-m-2048")
    parser.add_argument("--epochs", type=int, default=15, help="(default: 15)")
    parser.add_argument("--seed", type=int, default=0, help="random seed (default: 0)")
    parser.add_argument(
        "--pieces", type=int, default=25, help="clips per video to average over (default: 25)"
    )
    parser.add_argument(
        "--mirrored",
        action="store_true",
        help="also average over mirrored crops, if mirroring does not change the class",
    )
    parser.add_argument("--out", type=Path, default=Path("runs/two-stream"), help="run folder")
    options = parser.parse_args(arguments)

    try:
        if options.pieces < 1:  # not after hours of training
            raise InputError(f"--pieces {options.pieces}: it must be at least 1")
        splits = open_videos(options.folder, seed=options.seed)
        streams = train_streams(
            splits,
            model=options.model,
            out=options.out,
            epochs=options.epochs,
            seed=options.seed,
            go_on=True,
        )
        crops = 10 if options.mirrored else 5
        print(judge(streams, splits.val, crops=crops, pieces=options.pieces))
    except (InputError, OSError, TrainingError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:  # the run has said that its state is saved
        parser.exit(130, "stopped: repeat the command to continue\n")


if __name__ == "__main__":
    main()
