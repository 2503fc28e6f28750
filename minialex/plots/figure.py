"""Shared by all figures: headless Matplotlib, colours, and writing to disk."""

import io
from pathlib import Path
from typing import Any

from minialex.errors import InputError, unknown
from minialex.plots.by_pillow import matplotlib_missing
from minialex.utils.atomic import write_bytes
from minialex.utils.paths import expanded

KINDS = (".png", ".svg", ".pdf")

# Paul Tol's "bright" palette, which most colour-blind readers can tell apart
TRAIN, VAL, RIGHT, WRONG = "#4477aa", "#cc6677", "#66bb77", "#bbbbbb"
SERIES = ("#4477aa", "#ee6677", "#228833", "#aa3377", "#ccbb44", "#66ccee", "#777777")
DASHES = ("-", "--", "-.", ":")


def pyplot() -> Any:
    """Matplotlib's pyplot with the Agg backend; InputError if Matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        raise InputError("figures need Matplotlib: pip install 'minialex[figures]'") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def require_picture(path: str | Path) -> Path:
    """`path` with its `~` replaced; InputError for a file type that cannot be written."""
    path = expanded(path)
    if path.suffix.lower() == ".svg" and matplotlib_missing():
        raise InputError(
            f"{path}: SVG needs Matplotlib (pip install 'minialex[figures]'); .png does not"
        )
    if path.suffix.lower() not in KINDS:
        raise unknown("file type", path.suffix or str(path), KINDS)
    return path


def write(plt: Any, figure: Any, path: str | Path) -> Path:
    """Write the figure on a white background, atomically, and close it."""
    try:
        path = require_picture(path)
        content = io.BytesIO()
        options = {"dpi": 130, "facecolor": "white", "format": path.suffix[1:].lower()}
        with plt.rc_context({"svg.hashsalt": "minialex"}):  # deterministic ids
            dated = {} if options["format"] == "png" else {"Date": None}
            if options["format"] == "pdf":
                dated = {"CreationDate": None}
            figure.savefig(content, metadata=dated, **options)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content.getbuffer())
    finally:
        plt.close(figure)
    return path


def shortened(text: str, most: int) -> str:
    """`text` in at most `most` characters, with an ellipsis if it was cut."""
    text = text.partition(",")[0] if len(text) > most else text  # ImageNet's first synonym
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"
