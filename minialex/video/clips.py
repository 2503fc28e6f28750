"""Labelled clips, and the data sets of the two streams made from them: frames and flow stacks."""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from minialex.data.dataset import Dataset, Splits
from minialex.data.remarks import NONE, Remarks
from minialex.errors import InputError
from minialex.video import flow

FIELDS = 10  # L, flow fields in a stack (their section 3.1); a clip has one frame more


class Clips(Protocol):
    """Short labelled videos; everything but `frames` and `pieces` is as in `Dataset`."""

    @property
    def name(self) -> str: ...

    @property
    def layout(self) -> str: ...

    @property
    def class_ids(self) -> tuple[str, ...]: ...

    @property
    def class_names(self) -> tuple[str, ...]: ...

    @property
    def labels(self) -> np.ndarray: ...

    def describe(self, index: int) -> str: ...

    def __len__(self) -> int: ...

    def frames(self, index: int, size: int) -> np.ndarray:
        """Consecutive frames, resized and cropped: uint8 (FIELDS + 1, size, size, 3), RGB."""

    def pieces(self, index: int, size: int, count: int) -> np.ndarray:
        """Up to `count` such pieces, evenly spaced over the clip: (P, FIELDS + 1, ...)."""


@dataclass(frozen=True)
class ClipSplits:
    """Training and validation clips with the same classes."""

    train: Clips
    val: Clips


@dataclass(frozen=True, repr=False)
class _View(Dataset):
    """Clips as a data set of images."""

    clips: Clips
    native_size: ClassVar[None] = None

    @property
    def name(self) -> str:
        return self.clips.name

    @property
    def layout(self) -> str:
        return self.clips.layout

    @property
    def class_ids(self) -> tuple[str, ...]:
        return self.clips.class_ids

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.clips.class_names

    @property
    def labels(self) -> np.ndarray:
        return self.clips.labels

    def __len__(self) -> int:
        return len(self.clips)

    def describe(self, index: int) -> str:
        return self.clips.describe(index)

    def image_name(self, index: int) -> str | None:
        return super().image_name(index) if hasattr(self.clips, "paths") else None

    @property
    def remarks(self) -> Remarks:
        return getattr(self.clips, "remarks", NONE)


@dataclass(frozen=True)
class Frames(_View):
    """The spatial stream's data set: the middle frame of each clip."""

    def image(self, index: int, size: int) -> np.ndarray:
        """uint8 (size, size, 3)"""
        return self.of(self.clips.frames(index, size))

    def of(self, frames: np.ndarray) -> np.ndarray:
        """The stream's input from consecutive frames (FIELDS + 1, S, S, 3)."""
        return frames[FIELDS // 2]


@dataclass(frozen=True)
class Flows(_View):
    """The temporal stream's data set: the optical flow between the frames of each clip."""

    channels: ClassVar[int] = 2 * FIELDS
    method: str = "farneback"

    def image(self, index: int, size: int) -> np.ndarray:
        """uint8 (size, size, 20): x and y of each flow field in turn"""
        return self.of(self.clips.frames(index, size))

    def of(self, frames: np.ndarray) -> np.ndarray:
        """The stream's input from consecutive frames (FIELDS + 1, S, S, 3)."""
        return flow.stack(frames, self.method)


def spatial(splits: ClipSplits) -> Splits:
    """The spatial stream's data sets."""
    return Splits(Frames(splits.train), Frames(splits.val))


def temporal(splits: ClipSplits, method: str = "farneback") -> Splits:
    """The temporal stream's data sets."""
    return Splits(Flows(splits.train, method), Flows(splits.val, method))


def require_opencv() -> None:
    """Raise InputError unless OpenCV is installed."""
    try:
        import cv2  # noqa: F401
    except ImportError:
        raise InputError(
            "video needs OpenCV, which is not installed: pip install 'minialex[video]'"
        ) from None
