"""What all pictures share: Matplotlib without a display, colours, and the way to disk."""

import io
from pathlib import Path

from minialex.errors import InputError, unknown
from minialex.utils.checkpoint import write_bytes

KINDS = (".png", ".svg", ".pdf")

# Paul Tol's "bright" colours, told apart by most colour-blind readers too
TRAIN, VAL, RIGHT, WRONG = "#4477aa", "#cc6677", "#66bb77", "#bbbbbb"
SERIES = ("#4477aa", "#ee6677", "#228833", "#aa3377", "#ccbb44", "#66ccee", "#777777")
DASHES = ("-", "--", "-.", ":")


def pyplot():
    """Matplotlib's pyplot, drawing into files."""
    try:
        import matplotlib
    except ImportError:
        raise InputError(
            "pictures need Matplotlib: install it with pip install 'minialex[figures]'"
        ) from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def require_picture(path: str | Path) -> Path:
    """`path` as a Path; refuses a kind of picture that cannot be written."""
    path = Path(path)
    if path.suffix.lower() not in KINDS:
        raise unknown("kind of picture", path.suffix or str(path), KINDS)
    return path


def write(plt, figure, path: str | Path) -> Path:
    """Write the figure on a white card, whole or not at all, and close it."""
    try:
        path = require_picture(path)
        content = io.BytesIO()
        options = {"dpi": 130, "facecolor": "white", "format": path.suffix[1:].lower()}
        with plt.rc_context({"svg.hashsalt": "minialex"}):  # the same picture, the same bytes
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
    """`text` in at most so many characters, an ellipsis in place of what is left out."""
    text = text.partition(",")[0] if len(text) > most else text  # ImageNet's first synonym
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"
