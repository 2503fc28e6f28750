"""Pieces of an HTML page: every text is escaped here."""

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Html:
    """Text that is markup already."""

    text: str


Cell = str | Html


def page_css() -> str:
    """The style of this project's pages: light and dark, wide and narrow."""
    return (_HERE / "page.css").read_text(encoding="utf-8")


def text(cell: Cell) -> str:
    """The markup of a cell."""
    return cell.text if isinstance(cell, Html) else escape(cell)


def element(tag: str, content: Cell, **attributes: str) -> Html:
    """<tag class="...">content</tag>; `class_` gives the class."""
    given = "".join(f' {k.rstrip("_")}="{escape(v)}"' for k, v in attributes.items())
    return Html(f"<{tag}{given}>{text(content)}</{tag}>")


def joined(parts: Iterable[Cell]) -> Html:
    """The parts one after the other."""
    return Html("".join(map(text, parts)))


def section(title: str, *parts: Cell) -> Html:
    """A part of the page with its heading."""
    return element("section", joined([element("h2", title), *parts]))


def table(header: Sequence[Cell], rows: Iterable[Sequence[Cell]], class_: str = "") -> Html:
    """A table that scrolls sideways on narrow pages; the first column is a heading."""
    lines = [
        joined([element("th", row[0], scope="row"), *(element("td", cell) for cell in row[1:])])
        for row in rows
    ]
    head = joined(element("th", cell, scope="col") for cell in header)
    above = element("thead", element("tr", head)) if header else ""
    body = element("tbody", joined(element("tr", line) for line in lines))
    return element("div", element("table", joined([above, body]), class_=class_), class_="wide")


def image(pixels: np.ndarray, alt: str, *, side: int | None = None, exact: bool = False) -> Html:
    """uint8 (H, W, 3) in the page itself, resized to a square of `side`; `exact` as PNG."""
    from PIL import Image

    picture = Image.fromarray(pixels)
    if side is not None and picture.size != (side, side):
        picture = picture.resize((side, side), Image.Resampling.BICUBIC)
    content, kind = io.BytesIO(), "png" if exact else "jpeg"
    if exact:
        picture.save(content, "PNG", optimize=True)
    else:
        picture.save(content, "JPEG", quality=85)
    data = base64.b64encode(content.getvalue()).decode()
    width, height = picture.size
    return Html(
        f'<img alt="{escape(alt)}" width="{width}" height="{height}" '
        f'src="data:image/{kind};base64,{data}">'
    )


def tiles(pictures: Iterable[tuple[Html, Cell]]) -> Html:
    """Pictures with captions, as many in a row as fit."""
    figures = (
        element("figure", joined([picture, element("figcaption", caption)]))
        for picture, caption in pictures
    )
    return element("div", joined(figures), class_="tiles")
