"""Lists the images in a folder or an archive, and reports what is skipped and why."""

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from minialex.data.decode import kinds
from minialex.data.remarks import Reason, Remarks

BELOW = Reason("images in folders below a class (move them up)", True)
LOOSE = Reason("images outside the class folders", False)
SYSTEM = Reason("operating-system files, such as macOS's ._ files", False)
UNLABELLED = Reason("images without a label", False)
OTHER_CLASS = Reason("images of classes that have no training images", False)
OUTPUT = Reason("folders that minialex wrote", False)
NOT_PLAIN = Reason("archive entries that are not regular files", False)
FOLDER = Reason("folders named like an image", True)
_NOWHERE = Reason("broken links (fetch or remove them)", True)
_ANNEX = Reason("links to files that were not fetched (run `git annex get`)", True)
_CIRCLE = Reason("links in a loop (remove them)", True)
_AGAIN = Reason("folders that were already read through a link", False)
_SPECIAL = Reason("pipes, sockets or devices named like an image", True)
LINKS = (_NOWHERE, _ANNEX, _CIRCLE)  # each may be a whole class

# not opened: there may be one beside every image, and .jpegs are shards of a packed set
_OTHERS = ".csv .html .jpegs .json .mat .md .npy .npz .py .txt .xml .yaml"

_RUN = {"config.json", "last.safetensors"}
_Identity = tuple[int, int]  # device and inode

_PACKED = {"train-00000.npy", "train-00000.jpegs", "train-labels.npy", "unfinished.safetensors"}


@dataclass(frozen=True)
class Listing:
    """Names directly in a folder, sorted; `output` if minialex wrote the folder."""

    images: list[str]
    folders: list[str]
    output: bool = False


def listing(folder: Path, remarks: Remarks, prefix: str = "", index: str = "") -> Listing:
    """The images and folders in `folder`; what is left out goes to `remarks`, after `prefix`.

    `index` is a file that was already read and needs no remark. Raises OSError if the folder
    cannot be opened.
    """
    known = kinds.suffixes()
    splitext = os.path.splitext
    found, folders, others = [], [], set()
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            suffix = splitext(name)[1].lower()
            try:
                if suffix in known and name[0] != "." and entry.is_file():
                    found.append(name)  # the common case in a large set: no extra system calls
                    continue
                if kinds.is_system(name) or name == index:
                    continue
                if entry.is_file():
                    others.add(name)
                    reason = why_left_out(name, partial(_head, entry.path))
                    if reason is None:
                        found.append(name)
                elif entry.is_dir():
                    folders.append(name)
                    continue
                else:
                    reason = _no_file(entry, not suffix or suffix in known)
            except OSError as error:
                reason = _CIRCLE if error.errno == errno.ELOOP else _unopened(error)
            if reason is not None:
                remarks.leave_out(reason, prefix + name)
    output = others >= _RUN or not others.isdisjoint(_PACKED)
    return Listing(sorted(found), sorted(folders), output)


def below(folder: Path, remarks: Remarks, prefix: str = "") -> Iterator[str]:
    """Paths, relative to `folder`, of the images in it and in all folders below it.

    A folder that several links lead to is read once.
    """
    seen: set[_Identity] = set()
    above: list[_Identity] = []  # of the folders that the next one is in
    todo = [("", 0)]  # a stack, not recursion: trees can be deeper than Python's limit
    while todo:
        inside, depth = todo.pop()
        del above[depth:]
        try:
            state = os.stat(folder / inside)
            identity = state.st_dev, state.st_ino
            if state.st_ino and identity in seen:  # 0 on some network drives
                reason = _CIRCLE if identity in above else _AGAIN
                remarks.leave_out(reason, prefix + inside.rstrip("/"))
                continue
            seen.add(identity)
            found = listing(folder / inside, remarks, prefix + inside)
        except OSError as error:
            remarks.leave_out(_unopened(error), prefix + inside.rstrip("/"))
            continue
        above.append(identity)
        yield from (inside + name for name in found.images)
        todo += [(f"{inside}{name}/", depth + 1) for name in reversed(found.folders)]


def why_left_out(name: str, head: Callable[[], bytes]) -> Reason | None:
    """Why a file of this name is not read as an image, or None if it is.

    `name` may have folders in front; `head` reads the file's first bytes.
    """
    parts = [part for part in name.split("/") if part not in ("", ".", "..")]
    if any(map(kinds.is_system, parts)):
        return SYSTEM
    if kinds.is_image_name(name):
        return None
    if (kind := kinds.unread(name)) is not None:
        advice = "convert them to JPEG" if kind in kinds.PICTURES else "unpack or remove them"
        return Reason(f"{kind} files, not supported ({advice})", True)
    suffix = os.path.splitext(name)[1].lower()
    if suffix not in _OTHERS.split() and kinds.is_image(head()):
        return None
    return Reason(f"{suffix} files, not images" if suffix else _NO_SUFFIX, False)


_NO_SUFFIX = "files without a suffix, not images"


def _no_file(entry: os.DirEntry[str], named_like_an_image: bool) -> Reason | None:
    if not named_like_an_image:
        return None
    if entry.is_symlink():
        target = os.readlink(entry.path)
        return _ANNEX if "annex/objects" in target.replace("\\", "/") else _NOWHERE
    return _SPECIAL


def _unopened(error: OSError) -> Reason:
    return Reason(f"files or folders that cannot be opened ({error.strerror})", True)


def _head(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(kinds.HEAD)
