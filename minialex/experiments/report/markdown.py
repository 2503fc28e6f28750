"""The report as Markdown, for a repository: sentences and tables, and links to the pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from minialex.experiments.report.page import SCALES, SPREAD, text, time_taken
from minialex.experiments.report.section import Table
from minialex.utils import checkpoint

if TYPE_CHECKING:
    from minialex.experiments.runner import Chapter


def write(out: Path, chapters: "Sequence[Chapter]") -> Path:
    """Write report.md; the pictures it links to are those beside report.html."""
    parts = ["# The paper's experiments, run again"]
    parts += [SCALES[scale] for scale in sorted({c.asked.scale for c in chapters})]
    parts.append(SPREAD)
    for chapter in chapters:
        parts += _chapter(chapter)
    path = out / "report.md"
    checkpoint.write_text(path, "\n\n".join(parts) + "\n")
    return path


def _chapter(chapter: "Chapter") -> list[str]:
    one, section = chapter.experiment, chapter.section
    parts = [f"## {one.title}", one.about]
    if chapter.missing:
        parts.append(f"Not finished: {chapter.missing} parts have not been run.")
    parts += ["\n".join(f"- {sentence}" for sentence in section.findings)] * bool(section.findings)
    for table in section.tables:
        parts += [table.caption, _table(table)]
    for figure in section.figures:
        parts += [f"![{figure.alt}]({one.name}/{figure.name}.png)", figure.caption]
    took = f"Took {time_taken(chapter.seconds)} in all."
    return [*parts, "  \n".join(_code(line) for line in section.setting), took]


def _table(table: Table) -> str:
    rows = [table.columns, ["---"] * len(table.columns)]
    rows += [[text(value, table.digits) for value in row] for row in table.rows]
    lines = (" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows)
    return "\n".join(f"| {line} |" for line in lines)


def _code(line: str) -> str:
    return f"`{line}`"
