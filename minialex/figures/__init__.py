"""Pictures by Matplotlib without a display; each function writes one file, PNG, SVG or PDF.

All are drawn on an opaque white card, so that they look the same on a light and on a dark page.
"""

from minialex.figures.drawing import require_picture
from minialex.figures.kernels import kernels
from minialex.figures.photographs import neighbors, predictions, sample_predictions
from minialex.figures.runs import curves, learning_curves
from minialex.figures.timeline import PUBLISHED, Published, timeline

__all__ = [
    "PUBLISHED",
    "Published",
    "curves",
    "kernels",
    "learning_curves",
    "neighbors",
    "predictions",
    "require_picture",
    "sample_predictions",
    "timeline",
]
