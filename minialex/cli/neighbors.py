"""find the images most similar to a query, by features or pixels (paper, figure 4)"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from minialex.cli.common import (
    PHOTOS,
    add_device_options,
    add_json,
    add_model_file,
    at_least,
    load,
    print_json,
)
from minialex.cli.images import Photos
from minialex.errors import InputError

if TYPE_CHECKING:
    from minialex.inference.classifier import Classifier
    from minialex.parallel import DeviceConfig

EXAMPLES = (
    "minialex neighbors photo.jpg shapes:2 --in shapes:40 --model-file runs/shapes",
    "minialex neighbors photo.jpg --in shapes:20 --model-file runs/shapes --index seen.npz "
    "--figure near.png",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photos", nargs="+", metavar="QUERY", help=PHOTOS)
    parser.add_argument(
        "--in",
        dest="where",
        required=True,
        metavar="FOLDER",
        help="folder to search, with its subfolders, or shapes:N",
    )
    parser.add_argument(
        "--count", type=at_least(1), default=6, metavar="N", help="neighbours to list (default: 6)"
    )
    parser.add_argument(
        "--by",
        choices=("features", "pixels"),
        default="features",
        help="compare the last hidden layer's outputs, or raw pixels (default: features)",
    )
    parser.add_argument(
        "--index",
        type=Path,
        metavar="NPZ",
        help="file that keeps the folder's features between calls",
    )
    parser.add_argument(
        "--figure", type=Path, metavar="FILE", help="picture to write: .png, .svg or .pdf"
    )
    add_model_file(parser)
    add_device_options(parser)
    add_json(parser)


def run(
    photos: list[str],
    where: str,
    count: int,
    by: str,
    index: Path | None,
    figure: Path | None,
    model_file: Path | None,
    device_config: "DeviceConfig",
    json: bool,
) -> int:
    from minialex.inference import neighbors

    if index is not None and by == "pixels":
        raise InputError("--index stores features, which --by pixels does not use: leave one out")
    if index is not None and index.suffix != ".npz":
        raise InputError(f"--index {index}: the file's name must end in .npz")
    if figure is not None:
        from minialex.plots import require_picture

        require_picture(figure)
    classifier = load(model_file, device_config)
    size = classifier.preprocessing.recipe.resize
    given, searched = Photos(photos), Photos([where])
    asked, images = _all(given, size)
    queries = neighbors.vectors(classifier, images, by)
    names, found = _distances(classifier, searched, queries, by, index, not json)
    itself = {_full(name) for name in asked}
    left_out = [name for name in names if _full(name) in itself]
    rows = neighbors.nearest(found, names, count, left_out)
    if json:
        documents = []
        for name, row in zip(asked, rows, strict=True):
            near = [{"image": n.name, "distance": n.distance} for n in row]
            documents.append({"image": name, "by": by, "neighbors": near})
        print_json(documents)
    else:
        for name, row in zip(asked, rows, strict=True):
            print(name)
            for n in row:
                print(f"  {n.distance:12,.2f}  {n.name}")
    if figure is not None:
        from minialex import plots

        chosen = {n.name for row in rows for n in row}
        read = {item.name: item.read(size) for item in searched.items if item.name in chosen}
        pictures = [[read[n.name] for n in row] for row in rows]
        title = f"nearest by {by}"
        plots.neighbors(list(images), pictures, figure, title)
        if not json:
            print(f"picture: {figure}")
    return max(given.exit_code, searched.exit_code)


def _all(photos: Photos, size: int) -> tuple[list[str], np.ndarray]:
    names, images = [], []
    for more, found in photos.batches(size):
        names += more
        images.append(found)
    return names, np.concatenate(images)


def _distances(
    classifier: "Classifier",
    searched: Photos,
    queries: np.ndarray,
    by: str,
    path: Path | None,
    show: bool,
) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of the readable images of `searched` (N), and the queries' distances to them (Q, N)."""
    from minialex.inference import neighbors
    from minialex.utils.progress import Progress

    network = files = ""
    if path is not None:
        network = neighbors.network_fingerprint(classifier)
        files = neighbors.files_fingerprint(item.name for item in searched.items)
        if path.exists():
            index = neighbors.Index.load(path)
            index.require(path, network, files)
            return index.names, neighbors.distances(queries, index.features)
    names: list[str] = []
    found, kept = [], []
    with Progress(show).bar("searching", len(searched.items)) as bar:
        for more, images in searched.batches(classifier.preprocessing.recipe.resize):
            rows = neighbors.vectors(classifier, images, by)
            names += more
            found.append(neighbors.distances(queries, rows))
            if path is not None:
                kept.append(rows)
            bar.update(len(more))
    if path is not None:
        neighbors.Index(tuple(names), np.concatenate(kept), network, files).save(path)
    return tuple(names), np.concatenate(found, axis=1)


def _full(name: str) -> str:
    """The full path of a file, the name of anything else."""
    return str(Path(name).expanduser().resolve()) if Path(name).expanduser().exists() else name
