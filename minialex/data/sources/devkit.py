"""ILSVRC-2012's development kit: the classes by number, and the validation labels.

The kit numbers the 1,000 classes from 1 in an order of its own. Labels here are indices into the
sorted list of wnids, as in Caffe, torchvision and all later tools.
"""

import gzip
import io
import zlib
from dataclasses import dataclass
from pathlib import Path

from minialex.data.sources.tar import members
from minialex.errors import InputError

ARCHIVE = "ILSVRC2012_devkit_t12.tar.gz"
_FOLDERS = ("ILSVRC2012_devkit_t12", "ilsvrc2012_devkit", ".")
_META = "data/meta.mat"
_TRUTH = "data/ILSVRC2012_validation_ground_truth.txt"
_LARGEST = 64 << 20  # bytes, unpacked in memory; the kit has 3 million


@dataclass(frozen=True)
class Devkit:
    """The classes by the kit's numbers, and the number of each validation image."""

    path: Path
    wnids: dict[int, str]
    words: dict[str, str]  # wnid -> "tench, Tinca tinca"
    truth: tuple[int, ...]  # of ILSVRC2012_val_00000001.JPEG and so on

    def wnid_of(self, number: int) -> str | None:
        """The wnid of validation image `number`, which counts from 1; None beyond the last."""
        return self.wnids[self.truth[number - 1]] if 0 < number <= len(self.truth) else None


def find(root: Path) -> Path | None:
    """The kit in `root`: its archive, or a folder with its `data/`."""
    if (root / ARCHIVE).is_file():
        return root / ARCHIVE
    return next((root / f for f in _FOLDERS if (root / f / _META).is_file()), None)


def read(path: Path) -> Devkit:
    """The kit in an archive or a folder; raises InputError where it is incomplete or damaged."""
    files = _from_archive(path) if path.is_file() else _from_folder(path)
    wnids, words = _classes(path, files[_META])
    try:
        truth = tuple(int(line) for line in files[_TRUTH].split())
    except ValueError as error:
        raise InputError(f"{_TRUTH} of {str(path)!r} is not a list of numbers: {error}") from None
    if strange := sorted(set(truth) - set(wnids)):
        raise InputError(
            f"{_TRUTH} of {str(path)!r} uses class number {strange[0]}, which {_META} does not "
            "define: they are from different kits, so download the kit again"
        )
    return Devkit(path, wnids, words, truth)


def _from_folder(path: Path) -> dict[str, bytes]:
    for name in (_META, _TRUTH):
        if not (path / name).is_file():
            raise InputError(f"{str(path)!r} lacks {name}: unpack the whole {ARCHIVE} there")
    return {name: (path / name).read_bytes() for name in (_META, _TRUTH)}


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
            raise InputError(f"{str(path)!r} holds no {name}: it is not ILSVRC-2012's {ARCHIVE}")
    return files


def _classes(path: Path, meta: bytes) -> tuple[dict[int, str], dict[str, str]]:
    from scipy.io import loadmat

    try:
        synsets = loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"]
        leaves = [s for s in synsets if int(s["num_children"]) == 0]
        wnids = {int(s["ILSVRC2012_ID"]): str(s["WNID"]) for s in leaves}
        words = {str(s["WNID"]): str(s["words"]) for s in leaves}
    except Exception as error:  # SciPy's reader raises a dozen types on damaged files
        reason = str(error) or type(error).__name__
        raise InputError(f"{_META} of {str(path)!r} cannot be read: {reason}") from None
    if len(words) != len(leaves) or sorted(wnids) != list(range(1, len(leaves) + 1)):
        raise InputError(
            f"{_META} of {str(path)!r} does not number its {len(leaves)} classes from 1 to "
            f"{len(leaves)}: it is damaged or from another kit, so download it again"
        )
    return wnids, words
