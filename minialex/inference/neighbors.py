"""The images nearest to a query, by what a network makes of them or by their pixels (figure 4).

Two images with features close to each other are alike to the network (paper, section 6.1); by their
pixels the same images are mostly far apart. Distances are Euclidean, computed in float64.
"""

import hashlib
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minialex.errors import InputError, unknown
from minialex.inference.classifier import Classifier


@dataclass(frozen=True)
class Neighbor:
    """An image near to a query, and how far from it."""

    name: str
    distance: float


@dataclass(frozen=True)
class Index:
    """Features of named images. `network` and `files` say what it was made of."""

    names: tuple[str, ...]
    features: np.ndarray  # (N, D)
    network: str
    files: str

    def save(self, path: Path) -> None:
        """Write an .npz file, whole or not at all."""
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
        except Exception:  # whatever a damaged file makes NumPy's readers raise
            raise _no_index(path) from None
        if index.features.ndim != 2 or len(index.features) != len(names):
            raise _no_index(path)
        return index

    def require(self, path: Path, network: str, files: str) -> None:
        """Refuse an index of another network or of other files."""
        if self.network != network:
            raise InputError(
                f"{path} holds features of another network: name another --index for this one, or "
                "remove it to have it made anew"
            )
        if self.files != files:
            raise InputError(
                f"{path} was made of other files: some were added, removed or changed since, so "
                "remove it to have it made anew"
            )


def _no_index(path: Path) -> InputError:
    return InputError(f"{path} is damaged or no index of minialex: remove it, or name another")


def vectors(classifier: Classifier, resized: np.ndarray, by: str) -> np.ndarray:
    """What distances are measured between: (N, S, S, 3) -> (N, D).

    `by` is "features", the last hidden layer's on the centre crop, or "pixels", 0 to 255.
    """
    if by == "features":
        return classifier.features(resized)
    if by == "pixels":
        return resized.reshape(len(resized), -1)
    raise unknown("kind of distance", by, ("features", "pixels"))


def distances(queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Euclidean distances, exact in float64: (Q, D), (N, D) -> (Q, N)."""
    found = np.empty((len(queries), len(rows)))
    for i, query in enumerate(queries):
        difference = rows.astype(np.float64) - query
        found[i] = np.sqrt(np.einsum("nd,nd->n", difference, difference))
    return found


def nearest(
    found: np.ndarray, names: tuple[str, ...], count: int, left_out: Iterable[str] = ()
) -> list[list[Neighbor]]:
    """The `count` nearest by distances (Q, N), the nearest first; of equal ones the first named.

    Images named in `left_out` are nobody's neighbours: the queries themselves, where they lie in
    the folder that is searched.
    """
    leave = set(left_out)
    allowed = np.array([i for i, name in enumerate(names) if name not in leave], np.int64)
    if not len(allowed):
        raise InputError("there is no image to compare with but the queries: name another folder")
    best = allowed[np.argsort(found[:, allowed], axis=1, kind="stable")[:, :count]]
    return [
        [Neighbor(names[k], float(row[k])) for k in order]
        for row, order in zip(found, best, strict=True)
    ]


def network_print(classifier: Classifier) -> str:
    """A fingerprint of the weights and the preprocessing: equal ones give equal features."""
    digest = hashlib.sha256(repr(classifier.preprocessing.recipe).encode())
    for layer, of_layer in sorted(classifier.params.items()):
        for name, value in sorted(of_layer.items()):
            digest.update(f"{layer}.{name}".encode())
            digest.update(np.ascontiguousarray(classifier.backend.to_numpy(value)).data)
    digest.update(classifier.preprocessing.statistics.mean.tobytes())
    return digest.hexdigest()


def files_print(names: Iterable[str]) -> str:
    """A fingerprint of names, sizes and times of change; a name that is no file counts alone."""
    digest = hashlib.sha256()
    for name in names:
        path = Path(name)
        said = path.stat() if path.is_file() else None
        about = (said.st_size, said.st_mtime_ns) if said else ()
        digest.update(repr((name, *about)).encode("utf-8", "backslashreplace"))
    return digest.hexdigest()
