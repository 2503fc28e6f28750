"""ILSVRC-2012's development kit: the classes by number, and the validation labels.

The kit numbers the 1,000 classes from 1 in an order of its own. Labels here are indices into the
sorted list of wnids, as in Caffe, torchvision and all later tools.
"""

import gzip
import io
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from minialex.data.sources.tar import members
from minialex.errors import InputError

ARCHIVE = "ILSVRC2012_devkit_t12.tar.gz"
_FOLDERS = ("ILSVRC2012_devkit_t12", "ilsvrc2012_devkit", ".")
TRUTH_NAME = "ILSVRC2012_validation_ground_truth.txt"
_META = "data/meta.mat"
_TRUTH = f"data/{TRUTH_NAME}"
_LARGEST = 64 << 20  # bytes, unpacked in memory; the kit has 3 million


@dataclass(frozen=True)
class Devkit:
    """The classes by the kit's numbers, and the number of each validation image."""

    path: Path
    wnids: dict[int, str]
    words: dict[str, str]  # wnid -> "tench, Tinca tinca"
    truth: tuple[int, ...]  # of ILSVRC2012_val_00000001.JPEG and so on
    images: dict[str, int]  # wnid -> number of training images, if the kit gives it

    def wnid_of(self, number: int) -> str | None:
        """The wnid of validation image `number`, counted from 1; None beyond the last."""
        return self.wnids[self.truth[number - 1]] if 0 < number <= len(self.truth) else None

    def lacking(self, counts: Mapping[str, int]) -> Iterator[str]:
        """Sentences about training classes with fewer images than the kit says, or with none."""
        short = {i: n - counts[i] for i, n in self.images.items() if 0 < counts.get(i, 0) < n}
        if short:
            first = min(short)
            yield (
                f"{sum(short.values()):,} training images are missing according to the development "
                f"kit, in {len(short):,} classes: for example, {first} has {counts[first]:,} of "
                f"{self.images[first]:,}"
            )
        absent = sorted(set(self.images) - set(counts))
        if absent and counts.keys() & self.images.keys():
            yield (
                f"{len(absent):,} of the {len(self.images):,} classes of the development kit have "
                f"no training images, for example {absent[0]}"
            )


def find(root: Path) -> Path | None:
    """The kit in `root`: its archive, a folder with its `data/`, or its two files."""
    if (root / ARCHIVE).is_file():
        return root / ARCHIVE
    return next((root / f for f in _FOLDERS if _file(root / f, _META).is_file()), None)


def read(path: Path) -> Devkit:
    """The kit in an archive or a folder; raises InputError if it is incomplete or damaged."""
    files = _from_archive(path) if path.is_file() else _from_folder(path)
    wnids, words, images = _classes(path, files[_META])
    try:
        truth = tuple(int(line) for line in files[_TRUTH].split())
    except ValueError as error:
        raise InputError(f"{_TRUTH} of {str(path)!r} is not a list of numbers: {error}") from None
    if strange := sorted(set(truth) - set(wnids)):
        raise InputError(
            f"{_TRUTH} of {str(path)!r} uses class number {strange[0]}, which {_META} does not "
            "define: they are from different kits, so download the kit again"
        )
    return Devkit(path, wnids, words, truth, images)


def _from_folder(path: Path) -> dict[str, bytes]:
    for name in (_META, _TRUTH):
        if not _file(path, name).is_file():
            raise InputError(f"{str(path)!r} lacks {name}: unpack the whole {ARCHIVE} there")
    return {name: _file(path, name).read_bytes() for name in (_META, _TRUTH)}


def _file(folder: Path, name: str) -> Path:
    """One of the kit's files in its `data/`, or directly in the folder."""
    inside = folder / name
    return inside if inside.is_file() else folder / inside.name


def _from_archive(path: Path) -> dict[str, bytes]:
    try:
        with gzip.open(path) as packed:
            content = packed.read(_LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise InputError(
            f"{str(path)!r} is incomplete or not a gzip file ({error}): download it again"
        ) from None
    if len(content) > _LARGEST:
        raise InputError(
            f"{str(path)!r} unpacks to over {_LARGEST >> 20} MiB: it is not the development kit"
        )
    files = {}
    for member in members(io.BytesIO(content), str(path)):
        for name in (_META, _TRUTH):
            if member.plain and f"/{member.name}".endswith(f"/{name}"):
                files[name] = content[member.offset : member.offset + member.size]
    for name in (_META, _TRUTH):
        if name not in files:
            raise InputError(f"{str(path)!r} has no {name}: it is not ILSVRC-2012's {ARCHIVE}")
    return files


def _classes(path: Path, meta: bytes) -> tuple[dict[int, str], dict[str, str], dict[str, int]]:
    """Wnids by number, and words and numbers of training images by wnid."""
    from scipy.io import loadmat

    try:
        synsets = loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"]
        leaves = [s for s in synsets if int(s["num_children"]) == 0]
        wnids = {int(s["ILSVRC2012_ID"]): str(s["WNID"]) for s in leaves}
        words = {str(s["WNID"]): str(s["words"]) for s in leaves}
        counted = "num_train_images" in (synsets.dtype.names or ())
        images = {str(s["WNID"]): int(s["num_train_images"]) for s in leaves} if counted else {}
    except Exception as error:  # SciPy's reader raises a dozen types on damaged files
        reason = str(error) or type(error).__name__
        raise InputError(f"{_META} of {str(path)!r} cannot be read: {reason}") from None
    if len(words) != len(leaves) or sorted(wnids) != list(range(1, len(leaves) + 1)):
        raise InputError(
            f"{_META} of {str(path)!r} does not number its {len(leaves)} classes from 1 to "
            f"{len(leaves)}: it is damaged or from another kit, so download it again"
        )
    return wnids, words, images
