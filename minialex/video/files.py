"""Clips from video files: a folder of class folders, or train/ and val/ with class folders each."""

from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minialex.data.decode.images import resize_and_crop
from minialex.data.remarks import NONE, Remarks
from minialex.data.sources.walk import SYSTEM
from minialex.data.split import hold_out
from minialex.errors import InputError, nearest
from minialex.utils.paths import expanded
from minialex.video.clips import FIELDS, ClipSplits, require_opencv

SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")


@dataclass(frozen=True)
class VideoFiles:
    """One clip per file; `frames` are the FIELDS + 1 frames in its middle."""

    name: str
    layout: str
    class_ids: tuple[str, ...]
    paths: tuple[Path, ...]
    labels: np.ndarray  # int64 (N,)
    remarks: Remarks = NONE

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.class_ids

    def __len__(self) -> int:
        return len(self.paths)

    def describe(self, index: int) -> str:
        return str(self.paths[index])

    def frames(self, index: int, size: int) -> np.ndarray:
        """uint8 (FIELDS + 1, size, size, 3); InputError for an unreadable or too short file."""
        return self.pieces(index, size, 1)[0]

    def pieces(self, index: int, size: int, count: int) -> np.ndarray:
        """uint8 (P, FIELDS + 1, size, size, 3), evenly spaced over the file."""
        return read_pieces(self.paths[index], size, FIELDS + 1, count)


def open_videos(root: str | Path, *, val_fraction: float = 0.3, seed: int = 0) -> ClipSplits:
    """The video files under `root`; without train/ and val/, holds out `val_fraction` per class.

    Raises FileNotFoundError for a missing folder, InputError for one with fewer than two classes.
    """
    require_opencv()
    root = expanded(root)
    if not root.is_dir():
        hint = nearest(root) or "give a folder with a folder of video files for each class"
        raise FileNotFoundError(f"no folder {str(root)!r}: {hint}")
    if (root / "train").is_dir() and (root / "val").is_dir():
        train, val = _read(root / "train", root.name), _read(root / "val", root.name)
        if train.class_ids != val.class_ids:
            raise InputError(f"{root}: train/ and val/ have different classes: both need the same")
        return ClipSplits(train, val)
    whole = _read(root, root.name)
    names = [path.relative_to(root).as_posix() for path in whole.paths]
    held = hold_out(names, whole.labels, val_fraction, seed)
    return ClipSplits(_part(whole, ~held), _part(whole, held))


def read_pieces(path: Path, size: int, length: int, count: int) -> np.ndarray:
    """`count` pieces of `length` consecutive frames, evenly spaced: uint8 (P, length, S, S, 3).

    A single piece is the middle one; a short file has fewer pieces, all different. Frames are
    counted by reading them, as the count in a file's header is often wrong.
    """
    total = sum(1 for _ in _frames(path))
    if total < length:
        raise InputError(
            f"{path} has {total} readable frames, but a clip needs {length}: "
            "use a longer video, or remove this one"
        )
    spare = total - length
    starts = [spare // 2] if count == 1 else np.unique(np.linspace(0, spare, count).astype(int))
    frames = np.asarray(starts)[:, None] + np.arange(length)  # (P, length)
    wanted, found = set(frames.ravel().tolist()), {}
    for i, frame in enumerate(_frames(path, wanted)):
        if frame is not None:
            found[i] = resize_and_crop(frame, size)
    if len(found) < len(wanted):
        raise InputError(f"{path} has an unreadable frame: remove this file")
    return np.stack([[found[i] for i in piece] for piece in frames.tolist()])


def _frames(path: Path, wanted: Container[int] = ()) -> Iterator[np.ndarray | None]:
    """The frames of a file in turn: RGB (H, W, 3) if its number is in `wanted`, else None."""
    import cv2

    capture = cv2.VideoCapture(str(path))
    try:
        i = 0
        while capture.isOpened() and capture.grab():
            frame = capture.retrieve()[1] if i in wanted else None
            yield None if frame is None else cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
            i += 1
    finally:
        capture.release()


def _read(folder: Path, name: str) -> VideoFiles:
    classes, remarks = {}, Remarks()
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not entry.name.startswith("."):
            every = sorted(p for p in entry.rglob("*") if p.suffix.lower() in SUFFIXES)
            found = [path for path in every if not path.name.startswith(".")]
            for path in sorted(set(every).difference(found)):
                remarks.leave_out(SYSTEM, str(path.relative_to(folder)))
            if found:
                classes[entry.name] = found
    if len(classes) < 2:
        raise InputError(
            f"{folder} has {len(classes)} folder(s) with video files ({', '.join(SUFFIXES)}), but "
            "at least two are needed: put the files of each class into a folder of its own"
        )
    paths = tuple(path for found in classes.values() for path in found)
    counts = [len(found) for found in classes.values()]
    labels = np.repeat(np.arange(len(classes)), counts).astype(np.int64)
    return VideoFiles(name, f"{len(paths)} video files", tuple(classes), paths, labels, remarks)


def _part(whole: VideoFiles, chosen: np.ndarray) -> VideoFiles:
    paths = tuple(whole.paths[i] for i in np.flatnonzero(chosen))
    labels, remarks = whole.labels[chosen], whole.remarks
    return VideoFiles(whole.name, whole.layout, whole.class_ids, paths, labels, remarks)
