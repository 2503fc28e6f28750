"""Figures by Matplotlib, without a display: each function writes one PNG, SVG or PDF file.

Without Matplotlib, `kernels` and `neighbors` can write PNG and PDF with Pillow alone.

The background is opaque white, so that a figure looks the same on a light and on a dark page.
"""

from minialex.plots.curves import curves, learning_curves
from minialex.plots.figure import require_picture
from minialex.plots.filters import kernels
from minialex.plots.images import neighbors, predictions, sample_predictions
from minialex.plots.timeline import ChallengeResult, timeline

__all__ = [
    "ChallengeResult",
    "curves",
    "kernels",
    "learning_curves",
    "neighbors",
    "predictions",
    "require_picture",
    "sample_predictions",
    "timeline",
]
