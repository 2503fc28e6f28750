"""Generated clips: a disc cut from one photograph moves in front of another, darkened one.

The content of the middle frame is drawn independently of the motion, so in `motions_only` sets the
middle frames do not tell the classes apart. The camera drifts at random in each clip, as in
hand-held video, independently of the class.

A clip is a function of (photographs, seed, part, index) alone.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np

from minialex import rng
from minialex.data.dataset import Dataset, Splits
from minialex.errors import InputError, unknown
from minialex.video.clips import FIELDS, ClipSplits

# per frame: x and y as fractions of the side, logarithm of the scale, radians clockwise
Motion = tuple[int, int, int, int]
MOTIONS: dict[str, Motion] = {
    "left": (-1, 0, 0, 0),
    "right": (1, 0, 0, 0),
    "up": (0, -1, 0, 0),
    "down": (0, 1, 0, 0),
    "nearer": (0, 0, 1, 0),
    "farther": (0, 0, -1, 0),
    "clockwise": (0, 0, 0, 1),
    "anticlockwise": (0, 0, 0, -1),
}
_SPEED = np.array([0.022, 0.022, 0.05, 0.09])
_DRIFT = 0.012  # largest camera motion per frame, as a fraction of the side
_BACKGROUND = 0.45  # brightness of the background


@dataclass(frozen=True)
class Moving:
    """`count` clips, cycling through the classes; see `motions_only` and `mixed`."""

    photographs: Dataset
    count: int
    motions: tuple[str, ...] = tuple(MOTIONS)
    appearances: tuple[int, ...] = ()  # classes of the photographs; empty: any photograph
    seed: int = 0
    part: int = 0
    name: str = "moving"

    def __post_init__(self):
        for motion in self.motions:
            if motion not in MOTIONS:
                raise unknown("motion", motion, MOTIONS)

    @property
    def layout(self) -> str:
        return f"moving photographs of {self.photographs.name}, {len(self.class_names)} classes"

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        if not self.appearances:
            return self.motions
        seen = [self.photographs.class_names[k] for k in self.appearances]
        return tuple(f"{what}, {how}" for what, how in product(seen, self.motions))

    @property
    def class_ids(self) -> tuple[str, ...]:
        return tuple(name.replace(", ", "-").replace(" ", "-") for name in self.class_names)

    @cached_property
    def labels(self) -> np.ndarray:
        return np.arange(self.count, dtype=np.int64) % len(self.class_names)

    def __len__(self) -> int:
        return self.count

    def describe(self, index: int) -> str:
        return f"{self.name}:{self.part}/{index} (seed {self.seed})"

    def frames(self, index: int, size: int) -> np.ndarray:
        """uint8 (FIELDS + 1, size, size, 3)"""
        if not 0 <= index < self.count:
            raise IndexError(f"clip {index} of {self.count}")
        words = rng.words(self.seed, rng.Stream.VIDEO, self.part, [index], 12)[0]
        what, how = divmod(int(self.labels[index]), len(self.motions))
        inner = self._chosen(what, words[0])
        outer = int(rng.integers(words[1], len(self.photographs)))
        side = 2 * size  # larger than the frame: the camera drifts
        scene = (
            self.photographs.image(inner, size),
            (self.photographs.image(outer, side) * _BACKGROUND).astype(np.uint8),
        )
        return _film(*scene, MOTIONS[self.motions[how]], rng.uniform(words[2:]), size)

    def pieces(self, index: int, size: int, count: int) -> np.ndarray:
        """uint8 (1, FIELDS + 1, size, size, 3): a clip is as long as one piece."""
        return self.frames(index, size)[None]

    def _chosen(self, what: int, word: np.ndarray) -> int:
        """The index of a photograph for the disc: one of the clip's appearance, or any."""
        if not self.appearances:
            return int(rng.integers(word, len(self.photographs)))
        members = self._members[self.appearances[what]]
        return int(members[int(rng.integers(word, len(members)))])

    @cached_property
    def _members(self) -> dict[int, np.ndarray]:
        labels = self.photographs.labels
        members = {k: np.flatnonzero(labels == k) for k in self.appearances}
        if empty := [self.photographs.class_names[k] for k, m in members.items() if not len(m)]:
            raise InputError(f"{self.photographs.name!r} has no image of class {empty[0]!r}")
        return members


def motions_only(photographs: Splits, count: int, *, seed: int = 0) -> ClipSplits:
    """`count` training and half as many validation clips; eight classes that differ in motion."""
    return _pair(photographs, count, tuple(MOTIONS), (), seed, "motions")


def mixed(photographs: Splits, count: int, *, appearances: int = 3, seed: int = 0) -> ClipSplits:
    """Each class is an appearance and a motion: neither a frame nor the flow alone shows it.

    Classes are `appearances` of the photographs' classes, evenly spaced, times four directions.
    """
    known = len(photographs.train.class_ids)
    if not 2 <= appearances <= known:
        raise InputError(
            f"appearances is {appearances}: choose 2 to {known}, the number of classes"
        )
    chosen = tuple(int(k) for k in np.linspace(0, known - 1, appearances).round())
    return _pair(photographs, count, ("left", "right", "up", "down"), chosen, seed, "mixed")


def _pair(
    photographs: Splits,
    count: int,
    motions: tuple[str, ...],
    appearances: tuple[int, ...],
    seed: int,
    name: str,
) -> ClipSplits:
    classes = len(motions) * max(1, len(appearances))
    if count < 4 * classes:
        raise InputError(
            f"{count} clips are too few for {classes} classes: use at least {4 * classes}"
        )
    parts = ((photographs.train, count, 0), (photographs.val, count // 2, 1))
    train, val = (Moving(p, n, motions, appearances, seed, k, name) for p, n, k in parts)
    return ClipSplits(train, val)


def _film(
    inner: np.ndarray, outer: np.ndarray, motion: Motion, numbers: np.ndarray, size: int
) -> np.ndarray:
    """The disc of `inner` (S, S, 3) in front of `outer` (2 S, 2 S, 3): FIELDS + 1 frames."""
    import cv2

    centre = size * (0.5 + 0.3 * (numbers[:2] - 0.5))  # x, y in the middle frame
    radius = size * (0.26 + 0.06 * numbers[2])
    angle = 0.6 * (numbers[3] - 0.5)
    drift = size * _DRIFT * (2 * numbers[4:6] - 1)
    velocity = _SPEED * (0.8 + 0.4 * numbers[6]) * motion
    mask = _disc(size)
    frames = np.empty((FIELDS + 1, size, size, 3), np.uint8)
    for i in range(FIELDS + 1):
        t = i - FIELDS // 2
        moved = centre + t * (drift + size * velocity[:2])
        scale = 2 * radius / size * np.exp(t * velocity[2])
        disc = _affine(angle + t * velocity[3], scale, moved, size / 2)
        background = _affine(0.0, 1.0, np.array([size / 2, size / 2]) + t * drift, size)
        back = cv2.warpAffine(outer, background, (size, size), borderMode=cv2.BORDER_REFLECT)
        front = cv2.warpAffine(inner, disc, (size, size), borderMode=cv2.BORDER_REFLECT)
        alpha = cv2.warpAffine(mask, disc, (size, size))[:, :, None]
        frames[i] = np.rint(back * (1 - alpha) + front * alpha)
    return frames


def _disc(size: int) -> np.ndarray:
    """1 inside the largest disc of a square, 0 outside, with a soft edge: float32 (S, S)."""
    axis = np.arange(size) - (size - 1) / 2
    distance = np.hypot(axis, axis[:, None])
    return np.clip(size / 2 - 1 - distance, 0, 1).astype(np.float32)


def _affine(angle: float, scale: float, to: np.ndarray, middle: float) -> np.ndarray:
    """Rotate clockwise and scale about (middle, middle), then move that point to `to`: (2, 3)."""
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    turn = np.array([[cos, -sin], [sin, cos]])  # y points down: positive angles are clockwise
    return np.concatenate([turn, (to - turn @ [middle, middle])[:, None]], axis=1)
