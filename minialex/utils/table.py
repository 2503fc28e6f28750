"""Tables in plain text, for terminals, and in Markdown."""

from collections.abc import Sequence

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
