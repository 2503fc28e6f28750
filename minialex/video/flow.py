"""Optical flow, stored as 8-bit numbers (Simonyan & Zisserman, 2014, sections 3.1 and 5).

A flow field has the displacement of each pixel between a frame and the next. Its mean, mostly
camera motion, is subtracted; the rest is clipped to ±`BOUND` times the image's side and scaled to
0 … 255, as they did to store it in JPEG files, so that the loader treats stacks as images.
"""

from itertools import pairwise

import numpy as np

from minialex.errors import unknown

METHODS = ("dis", "farneback")
BOUND = 1 / 16  # largest displacement, as a fraction of the image's side


def stack(frames: np.ndarray, method: str = "farneback") -> np.ndarray:
    """Flow between consecutive frames: uint8 (L + 1, S, S, 3) -> uint8 (S, S, 2 L), x y x y …"""
    import cv2

    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    made = [field(*pair, method) for pair in pairwise(grey)]
    centred = np.concatenate([f - f.mean(axis=(0, 1)) for f in made], axis=2)  # (S, S, 2 L)
    return quantised(centred, BOUND * frames.shape[1])


def field(before: np.ndarray, after: np.ndarray, method: str = "farneback") -> np.ndarray:
    """Displacements in pixels, x right and y down: uint8 (S, S) twice -> float32 (S, S, 2)."""
    import cv2

    if method == "farneback":
        settings = {"pyr_scale": 0.5, "levels": 3, "winsize": 9, "iterations": 3}
        polynomial = {"poly_n": 5, "poly_sigma": 1.1, "flags": 0}
        return cv2.calcOpticalFlowFarneback(  # type: ignore[call-overload]
            before, after, None, **settings, **polynomial
        )
    if method == "dis":
        preset = cv2.DISOPTICAL_FLOW_PRESET_MEDIUM
        made = cv2.DISOpticalFlow_create(preset)  # type: ignore[attr-defined]
        return made.calc(before, after, None)
    raise unknown("flow method", method, METHODS)


def quantised(displacement: np.ndarray, bound: float) -> np.ndarray:
    """Map -bound … bound to 1 … 255 and zero to 128, clipping larger displacements."""
    levels = np.clip(displacement / bound, -1, 1) * 127 + 128
    return np.rint(levels).astype(np.uint8)


def displacements(levels: np.ndarray, bound: float) -> np.ndarray:
    """The inverse of `quantised`, to half a level."""
    return (levels.astype(np.float32) - 128) / 127 * bound
