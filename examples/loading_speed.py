"""How fast images get from the disk to the network, and what that means for all of ILSVRC-2012.

    python examples/loading_speed.py FOLDER PACKED

measures a folder of photographs and what `minialex prepare` made of it, side by side with PyTorch's
DataLoader where it is installed.
"""

import argparse
from collections.abc import Sequence

from minialex.bench.data import Rate, rates
from minialex.data.loader import cores

IMAGENET = 1_281_167
RECORD = 89_000  # images/s: 100 epochs in 24 minutes


def main(arguments: Sequence[str] | None = None) -> list[Rate]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="+", metavar="DATA", help="folders, archives, packed sets")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--workers", type=int, default=cores())
    parser.add_argument("--images", type=int, default=2000)
    options = parser.parse_args(arguments)
    found = []
    for data in options.data:
        print(data)
        for rate in rates(data, size=options.size, workers=options.workers, images=options.images):
            found.append(rate)
            line = f"  {rate.what:44} {rate.images_per_second:9,.0f} images/s"
            if rate.per_core_second is not None:
                line += f" {rate.per_core_second:9,.0f} a core"
            epoch = IMAGENET / rate.images_per_second / 60
            line += f"   ILSVRC-2012: {epoch:5.1f} min an epoch"
            if rate.per_core_second is not None:
                line += f", {RECORD / rate.per_core_second:5.0f} cores for {RECORD:,}/s"
            print(line)
    return found


if __name__ == "__main__":
    main()
