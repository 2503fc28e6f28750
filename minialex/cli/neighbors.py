"""find the images most similar to a query, by features or pixels (paper, figure 4)"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

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
from minialex.utils.paths import expanded

if TYPE_CHECKING:
    import numpy as np

    from minialex.inference import neighbors
    from minialex.inference.classifier import Classifier
    from minialex.parallel import DeviceConfig

EXAMPLES = (
    "minialex neighbors photo.jpg shapes:2 --in shapes:40 --model-file runs/shapes",
    "minialex neighbors photo.jpg --in shapes:20 --model-file runs/shapes --index seen.npz "
    "--figure near.png",
)

_QUERY_BYTES = 256 << 20  # for vectors: the features of 16,000 queries, or the pixels of 1,300
_MOST_DRAWN = 200  # queries in a picture


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
        type=expanded,
        metavar="NPZ",
        help="cache file for the folder's features",
    )
    parser.add_argument(
        "--figure", type=expanded, metavar="FILE", help="picture to write: .png, .svg or .pdf"
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
    from minialex.data.loading.retry import patiently
    from minialex.inference import neighbors
    from minialex.utils.atomic import require_writable

    if index is not None and by == "pixels":
        raise InputError("--index stores features, which --by pixels does not use: leave one out")
    if index is not None and index.suffix != ".npz":
        raise InputError(f"--index {index}: the file's name must end in .npz")
    if figure is not None:
        from minialex.plots import require_picture

        require_picture(figure)
    for file in (index, figure):
        if file is not None and not file.is_file():
            require_writable(file)
    classifier = load(model_file, device_config)
    size = classifier.preprocessing.recipe.image_size
    given, searched = Photos(photos), Photos([where])
    if figure is not None and len(given.items) > _MOST_DRAWN:
        raise InputError(
            f"--figure draws a row for each query, at most {_MOST_DRAWN}, but "
            f"{len(given.items):,} were given: leave it out, or give fewer"
        )
    by_path: dict[str, list[str]] = {}
    for item in searched.items:
        by_path.setdefault(_full(item.name), []).append(item.name)
    search = _Search(classifier, searched, by, index, not json)
    documents: list[dict] = []
    pictures: list[np.ndarray] = []
    rows: list[list[neighbors.Neighbor]] = []
    for asked, queries in _passes(given, classifier, by, pictures if figure else None):
        itself = [by_path.get(_full(name), []) for name in asked]
        found = search.nearest(neighbors.Nearest(queries, count, itself))
        for name, row in zip(asked, found, strict=True):
            if json:
                near = [{"image": n.name, "distance": n.distance} for n in row]
                documents.append({"image": name, "by": by, "neighbors": near})
                continue
            print(name)
            for n in row:
                print(f"  {n.distance:12,.2f}  {n.name}")
        if figure is not None:
            rows += found
    if json:
        print_json(documents)
    if figure is not None:
        from minialex import plots

        chosen = {n.name for row in rows for n in row}
        items = [item for item in searched.items if item.name in chosen]
        read = {item.name: patiently(partial(item.read, size)) for item in items}
        near_by = [[read[n.name] for n in row] for row in rows]
        plots.neighbors(pictures, near_by, figure, f"nearest by {by}")
        if not json:
            print(f"picture: {figure}")
    return max(given.exit_code, searched.exit_code)


def _passes(
    given: Photos, classifier: "Classifier", by: str, pictures: "list[np.ndarray] | None"
) -> "Iterator[tuple[list[str], np.ndarray]]":
    """Names and vectors (Q, D) of the queries, in groups that fit into `_QUERY_BYTES`.

    The folder is read once per group; `pictures` collects the images of all queries.
    """
    import numpy as np

    from minialex.inference import neighbors

    names: list[str] = []
    found: list[np.ndarray] = []
    for more, images in given.batches(classifier.preprocessing.recipe.image_size):
        names += more
        found.append(neighbors.vectors(classifier, images, by))
        if pictures is not None:
            pictures.extend(images)
        if sum(rows.nbytes for rows in found) > _QUERY_BYTES:
            yield names, np.concatenate(found)
            names, found = [], []
    if found:
        yield names, np.concatenate(found)


@dataclass
class _Search:
    """The images to search, or their features from the index file at `path`."""

    classifier: "Classifier"
    searched: Photos
    by: str
    path: Path | None
    show: bool
    index: "neighbors.Index | None" = None

    def nearest(self, best: "neighbors.Nearest") -> "list[list[neighbors.Neighbor]]":
        """Show all images to `best`; the first time, read the index file or write it."""
        import numpy as np

        from minialex.inference.neighbors import Index, files_fingerprint, network_fingerprint

        if self.index is None and self.path is not None:
            network = network_fingerprint(self.classifier)
            files = files_fingerprint(item.name for item in self.searched.items)
            if self.path.exists():
                self.index = Index.load(self.path)
                self.index.require(self.path, network, files)
            else:
                names, rows = self._read(best)
                self.index = Index(tuple(names), np.concatenate(rows), network, files)
                if self.searched.complete:
                    self.index.save(self.path)
                else:
                    said = f"{self.path} was not written: the drive failed, and images are missing"
                    print(said, file=sys.stderr)
                return best.rows()
        if self.index is None:
            self._read(best)
        else:
            best.add(self.index.names, self.index.features)
        return best.rows()

    def _read(self, best: "neighbors.Nearest") -> "tuple[list[str], list[np.ndarray]]":
        """Names and vectors of all readable images, kept only if there is an index."""
        from minialex.inference import neighbors
        from minialex.utils.progress import Progress

        names: list[str] = []
        kept: list[np.ndarray] = []
        size = self.classifier.preprocessing.recipe.image_size
        with Progress(self.show).bar("searching", len(self.searched.items)) as bar:
            for more, images in self.searched.batches(size):
                rows = neighbors.vectors(self.classifier, images, self.by)
                best.add(more, rows)
                bar.update(len(more))
                if self.path is not None:
                    names += more
                    kept.append(rows)
        return names, kept


def _full(name: str) -> str:
    """The full path of a file, the name of anything else."""
    path = expanded(name)
    return str(path.resolve()) if path.exists() else name
