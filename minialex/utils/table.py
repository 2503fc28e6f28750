"""Tables in plain text (for terminals), Markdown, and HTML (for notebooks)."""

from collections.abc import Sequence
from html import escape

Rows = Sequence[Sequence[str]]


def plain(header: Sequence[str], rows: Rows, align: str = "", gap: int = 2) -> str:
    """Columns as wide as their widest cell, `gap` spaces apart.

    `align` has a "<" (left) or ">" (right) for each column; by default all are left.
    """
    align = align or "<" * len(header)
    lines = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    space = " " * gap
    return "\n".join(
        space.join(
            f"{cell:{side}{width}}" for cell, side, width in zip(line, align, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def markdown(header: Sequence[str], rows: Rows) -> str:
    """A Markdown table; bars within cells are escaped."""
    lines = [header, ["---"] * len(header), *rows]
    cells = (" | ".join(cell.replace("|", "\\|") for cell in line) for line in lines)
    return "\n".join(f"| {line} |" for line in cells)


def html(header: Sequence[str], rows: Rows) -> str:
    """An HTML table; an empty header is left out."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table>{f'<tr>{head}</tr>' if head else ''}{body}</table>"
