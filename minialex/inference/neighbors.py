"""Nearest images to a query, by features or by pixels (paper, section 6.1 and figure 4).

The network considers two images similar if their features are close, even where their pixels are
far apart. Distances are Euclidean, in float64.
"""

import hashlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial.distance import cdist

from minialex.errors import InputError, unknown
from minialex.inference.classifier import Classifier
from minialex.inference.trained_model import require_finite
from minialex.tree import leaves

_BLOCK = 64  # queries, and images, compared at a time: of pixels, 100 MB of float64 each


@dataclass(frozen=True)
class Neighbor:
    """An image and its distance from a query."""

    name: str
    distance: float


@dataclass(frozen=True)
class Index:
    """Features of named images, with fingerprints of the network and of the files."""

    names: tuple[str, ...]
    features: np.ndarray  # (N, D)
    network: str
    files: str

    def save(self, path: Path) -> None:
        """Write an .npz file, atomically."""
        from minialex.utils.atomic import write_bytes

        file = io.BytesIO()
        np.savez(
            file,
            names=np.array(self.names),
            features=self.features,
            network=self.network,
            files=self.files,
        )
        write_bytes(path, file.getbuffer())

    @classmethod
    def load(cls, path: Path) -> "Index":
        """Read what `save` wrote; raises InputError for anything else."""
        try:
            with np.load(path, allow_pickle=False) as file:
                names = tuple(map(str, file["names"]))
                index = cls(names, file["features"], str(file["network"]), str(file["files"]))
        except OSError as error:
            if error.errno is not None:
                raise
            raise _no_index(path) from None
        except Exception:  # a damaged file may raise anything in NumPy's readers
            raise _no_index(path) from None
        if index.features.ndim != 2 or len(index.features) != len(names):
            raise _no_index(path)
        return index

    def require(self, path: Path, network: str, files: str) -> None:
        """Raise InputError if the index belongs to another network or to other files."""
        if self.network != network:
            raise InputError(
                f"{path} has the features of another network: choose another --index, or delete it "
                "to build it again"
            )
        if self.files != files:
            raise InputError(
                f"{path} was built from other files (some were added, removed or changed): delete "
                "it to build it again"
            )


def _no_index(path: Path) -> InputError:
    return InputError(f"{path} is damaged or not a minialex index: delete it, or choose another")


def vectors(classifier: Classifier, images: np.ndarray, by: str) -> np.ndarray:
    """The vectors to compare, from resized images: (N, S, S, 3) -> (N, D).

    `by` is "features", the last hidden layer's outputs on the centre crop, or "pixels", 0 to 255.
    """
    if by == "features":
        return require_finite(classifier.features(images))
    if by == "pixels":
        return images.reshape(len(images), -1)
    raise unknown("kind of distance", by, ("features", "pixels"))


def distances(queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Euclidean distances in float64: (Q, D), (N, D) -> (Q, N)."""
    return cdist(queries, rows)


class Nearest:
    """The `count` nearest images to each query, nearest first; ties in the order added.

    Images are added a few at a time, so memory does not grow with their number. `left_out` has the
    names to exclude for each query: its own, if it is in the searched folder.
    """

    def __init__(self, queries: np.ndarray, count: int, left_out: Iterable[Iterable[str]] = ()):
        self.queries, self.count = queries, count
        self._queries_of: dict[str, list[int]] = {}  # that an image is not compared with
        for query, names in enumerate(left_out):
            for name in names:
                self._queries_of.setdefault(name, []).append(query)
        self.names: list[str] = []  # of all candidates that were added
        self._distances = np.zeros((len(queries), 0))  # ascending: (Q, up to count)
        self._which = np.zeros((len(queries), 0), np.int64)  # the names they belong to

    def add(self, names: Sequence[str], rows: np.ndarray) -> None:
        """Compare the queries (Q, D) with images of these names and vectors, (N, D)."""
        for start in range(0, len(names), _BLOCK):
            some = names[start : start + _BLOCK]
            which = np.arange(len(some)) + len(self.names)
            self.names += some
            candidates = np.asarray(rows[start : start + _BLOCK], np.float64)
            excluded = np.zeros((len(self.queries), len(some)), bool)
            for column, name in enumerate(some):
                excluded[self._queries_of.get(name, []), column] = True
            best = [
                self._best(block, candidates, which, excluded[block])
                for block in np.array_split(np.arange(len(self.queries)), self._blocks)
            ]
            self._distances, self._which = (np.concatenate(x) for x in zip(*best, strict=True))

    @property
    def _blocks(self) -> int:
        return max(1, -(-len(self.queries) // _BLOCK))

    def _best(
        self, block: np.ndarray, candidates: np.ndarray, which: np.ndarray, excluded: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Distances and names of the nearest images so far, for some queries."""
        new = distances(self.queries[block], candidates)
        new[excluded] = np.inf  # sorted last, and left out of the answer
        found = np.concatenate([self._distances[block], new], axis=1)
        of = np.concatenate([self._which[block], np.broadcast_to(which, new.shape)], axis=1)
        order = np.argsort(found, axis=1, kind="stable")[:, : self.count]
        return np.take_along_axis(found, order, 1), np.take_along_axis(of, order, 1)

    def rows(self) -> list[list[Neighbor]]:
        """The nearest images to each query; InputError if there was none to compare with."""
        if not np.isfinite(self._distances).any():
            raise InputError("the queries are the only images in the folder: give another folder")
        pairs = (zip(*one, strict=True) for one in zip(self._which, self._distances, strict=True))
        return [
            [Neighbor(self.names[k], float(d)) for k, d in of_query if np.isfinite(d)]
            for of_query in pairs
        ]


def network_fingerprint(classifier: Classifier) -> str:
    """A hash of weights, preprocessing, precision: networks with equal ones give equal features."""
    digest = hashlib.sha256(repr(classifier.preprocessing.recipe).encode())
    if classifier.devices.precision.name != "fp32":
        digest.update(classifier.devices.precision.name.encode())
    for layer, name, value in sorted(leaves(classifier.params), key=lambda leaf: leaf[:2]):
        digest.update(f"{layer}.{name}".encode())
        digest.update(np.ascontiguousarray(classifier.devices.to_numpy(value)).data)
    digest.update(classifier.preprocessing.statistics.mean.tobytes())
    return digest.hexdigest()


def files_fingerprint(names: Iterable[str]) -> str:
    """A hash of names, sizes and modification times; of names only if they are not files."""
    digest = hashlib.sha256()
    for name in names:
        path = Path(name)
        stat = path.stat() if path.is_file() else None
        details = (stat.st_size, stat.st_mtime_ns) if stat else ()
        digest.update(repr((name, *details)).encode("utf-8", "backslashreplace"))
    return digest.hexdigest()
