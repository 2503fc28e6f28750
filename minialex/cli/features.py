"""extract features: the outputs of the last hidden layer (paper, section 6.1)"""

import argparse
import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from minialex.cli.common import PHOTOS, add_device_options, add_model_file, load
from minialex.cli.images import Photos
from minialex.errors import unknown
from minialex.utils.paths import expanded

if TYPE_CHECKING:
    import numpy as np

    from minialex.parallel import DeviceConfig

EXAMPLES = (
    "minialex features shapes:8 --model-file runs/shapes --out features.npz",
    "minialex features photo.jpg --model-file runs/shapes --out features.csv",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photos", nargs="+", metavar="PHOTO", help=PHOTOS)
    add_model_file(parser)
    parser.add_argument(
        "--out",
        type=expanded,
        default=Path("features.npz"),
        metavar="FILE",
        help=".npz (arrays `names` and `features`), .npy (features only) or .csv "
        "(default: features.npz)",
    )
    add_device_options(parser)


def run(
    photos: list[str],
    model_file: Path | None,
    device_config: "DeviceConfig",
    out: Path,
) -> int:
    import numpy as np

    from minialex.inference.trained_model import require_finite
    from minialex.utils.atomic import require_writable, write_bytes

    if out.suffix not in _WRITERS:
        raise unknown("file type", out.suffix or str(out), _WRITERS)
    require_writable(out)
    classifier = load(model_file, device_config)
    given, names, rows = Photos(photos), [], []
    for more, images in given.batches(classifier.preprocessing.recipe.image_size):
        names += more
        rows.append(require_finite(classifier.features(images)))
    features = np.concatenate(rows)
    write_bytes(out, _WRITERS[out.suffix](names, features))
    print(f"{out}: {features.shape[0]:,} images, {features.shape[1]:,} features each")
    return given.exit_code


def _npz(names: list[str], features: "np.ndarray") -> memoryview:
    import numpy as np

    file = io.BytesIO()
    np.savez(file, names=np.array(names), features=features)
    return file.getbuffer()


def _npy(names: list[str], features: "np.ndarray") -> memoryview:
    import numpy as np

    file = io.BytesIO()
    np.save(file, features)
    return file.getbuffer()


def _csv(names: list[str], features: "np.ndarray") -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", *range(features.shape[1])])
    for name, row in zip(names, features, strict=True):
        writer.writerow([name, *(f"{value:.9g}" for value in row)])
    return text.getvalue().encode("utf-8", "surrogateescape")


_WRITERS: "dict[str, Callable[[list[str], np.ndarray], bytes | memoryview]]" = {
    ".npz": _npz,
    ".npy": _npy,
    ".csv": _csv,
}
