"""Pictures of images drawn by Pillow alone, on white, for use without Matplotlib."""

from __future__ import annotations

import io
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from minialex.data.inspect.contact_sheet import font
from minialex.utils.atomic import write_bytes

if TYPE_CHECKING:
    from PIL.Image import Image

LINE, GAP = 18, 4  # pixels of a line of text, and between pictures


def matplotlib_missing() -> bool:
    """Whether Matplotlib is missing."""
    return find_spec("matplotlib") is None


def save(picture: Image, path: Path) -> Path:
    """Write a PNG or PDF file, atomically."""
    content, kind = io.BytesIO(), path.suffix[1:].upper()
    undated = {"creationDate": None, "modDate": None} if kind == "PDF" else {}
    picture.save(content, kind, **undated)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content.getbuffer())
    return path


def below_each_other(sheets: Sequence[tuple[str, np.ndarray]]) -> Image:
    """Pictures, uint8 (H, W, 3), each under its title."""
    from PIL import Image, ImageDraw

    letters, spell = font()
    width = max(
        *(sheet.shape[1] for _, sheet in sheets),
        *(round(letters.getlength(spell(title))) for title, _ in sheets),
    )
    height = sum(LINE + sheet.shape[0] + GAP for _, sheet in sheets)
    picture = Image.new("RGB", (width + 2 * GAP, height), "white")
    draw, y = ImageDraw.Draw(picture), 0
    for title, sheet in sheets:
        draw.text((GAP, y + 2), spell(title), fill="black", font=letters)
        picture.paste(Image.fromarray(sheet), (GAP, y + LINE))
        y += LINE + sheet.shape[0] + GAP
    return picture


def grid(
    rows: Sequence[Sequence[np.ndarray]],
    heads: Sequence[str],
    title: str = "",
    labels: Sequence[Sequence[str]] | None = None,
) -> Image:
    """Rows of square pictures of one size, `heads` above the first columns, labels below each."""
    from PIL import Image, ImageDraw

    letters, spell = font()
    side = rows[0][0].shape[0]
    step, line = side + GAP, LINE * (labels is not None)
    top = LINE * (1 + bool(title))
    columns = max(map(len, rows))
    picture = Image.new("RGB", (columns * step + GAP, top + len(rows) * (step + line)), "white")
    draw = ImageDraw.Draw(picture)
    draw.text((GAP, 2), spell(title), fill="black", font=letters)
    for column, head in enumerate(heads):
        draw.text((GAP + column * step, top - LINE + 2), spell(head), fill="black", font=letters)
    for i, row in enumerate(rows):
        for j, pixels in enumerate(row):
            x, y = GAP + j * step, top + i * (step + line)
            picture.paste(Image.fromarray(pixels), (x, y))
            if labels is not None:
                text = spell(labels[i][j])
                draw.text((x, y + side + 2), text, fill="black", font=letters)
    return picture
