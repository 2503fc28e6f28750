"""A contact sheet: a few images of each class in one picture."""

import os
import unicodedata
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minialex.data.sources.open import open_data
from minialex.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

CLASSES, IMAGES = 20, 8  # at most, in rows and columns
SIDE, TEXT = 96, 220  # pixels of an image, and of the column of names


def contact_sheet(
    data: str | os.PathLike[str], *, seed: int = 0, val_fraction: float = 0.1
) -> "Image":
    """A picture of up to 8 training images of up to 20 classes, one class in a row."""
    from PIL import Image, ImageDraw

    train = open_data(data, seed=seed, val_fraction=val_fraction).train
    present = np.unique(train.labels)
    rows = present[np.linspace(0, len(present) - 1, min(len(present), CLASSES)).astype(int)]
    step = SIDE + 4
    size = TEXT + IMAGES * step, len(rows) * step
    sheet = Image.new("RGB", size, "white")
    draw, (letters, spell) = ImageDraw.Draw(sheet), font()
    for row, label in enumerate(rows.tolist()):
        name = spell(train.class_names[label])[:34]
        draw.text((4, row * step + SIDE // 2 - 6), name, fill="black", font=letters)
        members = np.flatnonzero(train.labels == label)
        spread = np.linspace(0, len(members) - 1, min(len(members), IMAGES)).astype(int)
        for column, index in enumerate(members[spread].tolist()):
            x, y = TEXT + column * step, row * step
            try:
                sheet.paste(Image.fromarray(train.image(index, SIDE)), (x, y))
            except (InputError, OSError):
                draw.rectangle((x, y, x + SIDE - 1, y + SIDE - 1), outline="red")
                draw.text((x + 8, y + SIDE // 2 - 6), "unreadable", fill="red")
    return sheet


def font() -> tuple[Any, Callable[[str], str]]:
    """A font, and a function that writes a name in characters that it has.

    Matplotlib comes with a font for most alphabets; Pillow's own has little beyond English.
    """
    from PIL import ImageFont

    found = find_spec("matplotlib")
    if found is not None and found.origin is not None:
        path = Path(found.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf"
        if path.exists():
            return ImageFont.truetype(path, 11), str
    return ImageFont.load_default(11), _in_ascii


def _in_ascii(name: str) -> str:
    """`name` without its accents, and a question mark for each letter that is not ASCII."""
    apart = unicodedata.normalize("NFKD", name)
    kept = (c for c in apart if not unicodedata.combining(c))
    return "".join(c if c.isascii() else "?" for c in kept)
