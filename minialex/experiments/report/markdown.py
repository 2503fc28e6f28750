"""The report as Markdown: findings, tables, and links to the figures beside report.html."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from minialex.experiments.report import text
from minialex.experiments.report.section import Table
from minialex.utils import atomic, table

if TYPE_CHECKING:
    from minialex.experiments.runner import Chapter


def write(out: Path, chapters: "Sequence[Chapter]") -> Path:
    """Write report.md; -> its path."""
    parts = ["# The paper's experiments: a reproduction", *text.scale_notes(chapters)]
    parts.append(text.STATISTICS)
    if claims := text.claims(chapters):
        parts += _table(claims)
    for chapter in chapters:
        parts += _chapter(chapter)
    path = out / "report.md"
    atomic.write_text(path, "\n\n".join(parts) + "\n")
    return path


def _chapter(chapter: "Chapter") -> list[str]:
    experiment, section = chapter.experiment, chapter.section
    parts = [f"## {experiment.title}", experiment.about]
    if chapter.not_run:
        parts.append(f"Incomplete: {text.not_run(chapter)} not been computed.")
    if section.findings:
        parts.append("\n".join(f"- {sentence}" for sentence in section.findings))
    for one in section.tables:
        parts += _table(one)
    for figure in section.figures:
        parts += [f"![{figure.alt}]({experiment.name}/{figure.name}.png)", figure.caption]
    parts.append("  \n".join(f"`{line}`" for line in section.setting))
    parts.append(f"Computed in {text.duration(chapter.seconds)}.")
    return parts


def _table(one: Table) -> list[str]:
    rows = [[text.value_text(value, one.digits) for value in row] for row in one.rows]
    return [one.caption, table.markdown(one.columns, rows)]
