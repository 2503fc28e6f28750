"""Pictures by Matplotlib without a display; each function writes one file, PNG, SVG or PDF.

All are drawn on an opaque white card, so that they look the same on a light and on a dark page.
"""

from minialex.plots.drawing import require_picture
from minialex.plots.kernels import kernels
from minialex.plots.photographs import neighbors, predictions, sample_predictions
from minialex.plots.runs import curves, learning_curves
from minialex.plots.timeline import PUBLISHED, Published, timeline

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
