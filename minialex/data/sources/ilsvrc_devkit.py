"""The development kits of ILSVRC-2012 and ILSVRC-2010: classes by number, and validation labels.

A kit numbers the 1,000 classes from 1 in an order of its own. Labels here are indices into the
sorted list of wnids, as in Caffe, torchvision and all later tools.
"""

import gzip
import io
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from minialex.data.sources.tar import members
from minialex.errors import InputError


@dataclass(frozen=True)
class Edition:
    """The names that a year's files have; the first of `kits` is the one that errors give."""

    year: int
    train: str
    val: str
    kits: tuple[str, ...]
    folders: tuple[str, ...]  # of the unpacked kit

    @property
    def truth_name(self) -> str:
        """The list of the validation images' classes."""
        return f"ILSVRC{self.year}_validation_ground_truth.txt"

    @property
    def truth(self) -> str:
        """Where the kit has it."""
        return f"data/{self.truth_name}"


EDITIONS = (
    Edition(
        2012,
        "ILSVRC2012_img_train.tar",
        "ILSVRC2012_img_val.tar",
        ("ILSVRC2012_devkit_t12.tar.gz",),
        ("ILSVRC2012_devkit_t12", "ilsvrc2012_devkit", "."),
    ),
    Edition(
        2010,
        "ILSVRC2010_images_train.tar",
        "ILSVRC2010_images_val.tar",
        ("ILSVRC2010_devkit-1.0.tar.gz", "devkit-1.0.tar.gz"),
        ("devkit-1.0", "ILSVRC2010_devkit-1.0", "."),
    ),
)
_META = "data/meta.mat"
_LARGEST = 64 << 20  # bytes, unpacked in memory; the kits have 3 to 12 million


@dataclass(frozen=True)
class Devkit:
    """The classes by the kit's numbers, and the number of each validation image."""

    path: Path
    edition: Edition
    wnids: dict[int, str]
    words: dict[str, str]  # wnid -> "tench, Tinca tinca"
    truth: tuple[int, ...]  # of the validation images, which are numbered from 1
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


def find(root: Path, editions: Sequence[Edition] = EDITIONS) -> Path | None:
    """A kit in `root`: its archive, a folder with its `data/`, or its two files."""
    for edition in editions:
        others = [other.truth for other in EDITIONS if other is not edition]
        for name in edition.kits:
            if (root / name).is_file():
                return root / name
        for folder in (root / name for name in edition.folders):
            if _file(folder, _META).is_file() and not any(
                _file(folder, o).is_file() for o in others
            ):
                return folder
    return None


def read(path: Path) -> Devkit:
    """The kit in an archive or a folder; raises InputError if it is incomplete or damaged."""
    files = _from_archive(path) if path.is_file() else _from_folder(path)
    edition = next(one for one in EDITIONS if one.truth in files)
    wnids, words, images = _classes(path, files[_META], edition)
    try:
        truth = tuple(int(line) for line in files[edition.truth].split())
    except ValueError as error:
        raise InputError(
            f"{edition.truth} of {str(path)!r} is not a list of numbers: {error}"
        ) from None
    if strange := sorted(set(truth) - set(wnids)):
        raise InputError(
            f"{edition.truth} of {str(path)!r} uses class number {strange[0]}, which {_META} does "
            "not define: they are from different kits, so download the kit again"
        )
    return Devkit(path, edition, wnids, words, truth, images)


def _from_folder(path: Path) -> dict[str, bytes]:
    names = (_META, *(edition.truth for edition in EDITIONS))
    files = {name: _file(path, name).read_bytes() for name in names if _file(path, name).is_file()}
    edition = _edition(path, files)
    for name in (_META, edition.truth):
        if name not in files:
            raise InputError(
                f"{str(path)!r} lacks {name}: unpack the whole {edition.kits[0]} there"
            )
    return files


def _edition(path: Path, files: Iterable[str]) -> Edition:
    """The edition whose labels are among `files`; without any, the one that the path names."""
    for edition in EDITIONS:
        if edition.truth in files:
            return edition
    named = (e for e in EDITIONS if path.name in (*e.kits, *e.folders))
    return next(named, EDITIONS[0])


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
        for name in (_META, *(edition.truth for edition in EDITIONS)):
            if member.plain and f"/{member.name}".endswith(f"/{name}"):
                files[name] = content[member.offset : member.offset + member.size]
    edition = _edition(path, files)
    for name in (_META, edition.truth):
        if name not in files:
            raise InputError(
                f"{str(path)!r} has no {name}: it is not ILSVRC-{edition.year}'s {edition.kits[0]}"
            )
    return files


def _classes(
    path: Path, meta: bytes, edition: Edition
) -> tuple[dict[int, str], dict[str, str], dict[str, int]]:
    """Wnids by number, and words and numbers of training images by wnid."""
    from scipy.io import loadmat

    try:
        synsets = loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"]
        leaves = [s for s in synsets if int(s["num_children"]) == 0]
        wnids = {int(s[f"ILSVRC{edition.year}_ID"]): str(s["WNID"]) for s in leaves}
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
