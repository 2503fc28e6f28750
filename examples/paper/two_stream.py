"""The two-stream video network: one network sees a frame, one sees motion, their mean decides.

    python examples/paper/two_stream.py
    python examples/paper/two_stream.py --photographs FOLDER --clips 1200 --seeds 0 1 2
    python examples/paper/two_stream.py --videos FOLDER

Needs `pip install 'minialex[video]'`. Without --videos the clips are generated from photographs, or
the built-in drawings: in the first set only motion tells the classes apart, in the second each
class is an appearance and a motion. About a minute a set and seed on two CPU cores.
"""

import argparse
from pathlib import Path

import numpy as np

from minialex.data.open import open_data
from minialex.video.files import open_videos
from minialex.video.moving import mixed, motions_only
from minialex.video.two_stream import Judgement, judge, train_streams


def main(arguments: list[str] | None = None) -> dict[str, list[Judgement]]:
    """The judgements by data set, one a seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photographs", default="shapes", help="shapes:N or a folder")
    parser.add_argument("--videos", help="a folder of classes of video files, instead")
    parser.add_argument("--clips", type=int, default=480, help="to learn from, in each set")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--model", default="stream-48", help="stream-48 or cnn-m-2048")
    parser.add_argument("--out", type=Path, default=Path("runs/two-stream"))
    options = parser.parse_args(arguments)

    found: dict[str, list[Judgement]] = {}
    for seed in options.seeds:
        if options.videos:
            sets = {"videos": open_videos(options.videos, seed=seed)}
        else:
            photographs = open_data(options.photographs)
            sets = {
                "only motion differs": motions_only(photographs, options.clips, seed=seed),
                "appearance x motion": mixed(photographs, options.clips, seed=seed),
            }
        for name, splits in sets.items():
            streams = train_streams(
                splits,
                model=options.model,
                out=options.out / f"{name.replace(' ', '-')}-{seed}",
                epochs=options.epochs,
                seed=seed,
                progress=False,
            )
            found.setdefault(name, []).append(judge(streams, splits.val))
            print(f"{name}, seed {seed}: {found[name][-1]}", flush=True)

    for name, judgements in found.items():
        print(f"{name}: top-1 error over {len(judgements)} seed(s), mean and range")
        for stream in ("spatial", "temporal", "fused"):
            errors = [getattr(judgement, stream) for judgement in judgements]
            print(f"  {stream:9} {np.mean(errors):7.2%}  {min(errors):.2%} to {max(errors):.2%}")
    return found


if __name__ == "__main__":
    main()
