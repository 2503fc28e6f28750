"""The report: one HTML file that needs nothing else, with CSV tables and PNG pictures beside it."""

import base64
import csv
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from minialex import __version__
from minialex.experiments.report.plots import draw
from minialex.experiments.report.section import Figure, Picture, Table, Value
from minialex.experiments.statistics import Difference, Measured
from minialex.utils import checkpoint

if TYPE_CHECKING:
    from minialex.experiments.runner import Chapter

_TITLE = "ImageNet classification with deep convolutional neural networks, run again"
SCALES = {
    "tiny": "The scale is tiny, a rehearsal: its numbers show that the programs run, no more.",
    "small": "The scale is small: fewer images, smaller networks and fewer epochs than the "
    "paper's, so that only the direction of a difference can be compared with the published one.",
    "full": "The scale is full: the paper's networks and epochs.",
}
SPREAD = (
    "After ± stands the standard deviation over seeds. A difference is taken seed by seed from the "
    "network it is compared with; in brackets stands the 95 % interval of its mean by Student's t. "
    "Networks are judged as their last epoch left them."
)


def write(out: Path, chapters: "Sequence[Chapter]") -> Path:
    """Write report.html, and a folder of CSV and PNG files for each experiment; -> the page."""
    body = [_head(chapters)]
    body += [_chapter(out, chapter) for chapter in chapters]
    css = (Path(__file__).parent / "report.css").read_text(encoding="utf-8")
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(_TITLE)}</title>\n<style>\n{css}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )
    path = out / "report.html"
    checkpoint.write_text(path, page)
    return path


def _head(chapters: "Sequence[Chapter]") -> str:
    scales = sorted({chapter.asked.scale for chapter in chapters})
    items = "".join(
        f'<li><a href="#{c.experiment.name}">{escape(c.experiment.title)}</a></li>'
        for c in chapters
    )
    words = "".join(f"<p>{escape(SCALES[scale])}</p>" for scale in scales)
    return (
        f"<header><h1>{escape(_TITLE)}</h1>\n"
        f'<p class="quiet">Report of minialex {escape(__version__)} on the experiments of '
        "Krizhevsky, Sutskever and Hinton (2012); published numbers stand beside those of this "
        f"run.</p>\n{words}<p>{SPREAD}</p></header>\n"
        f'<nav aria-label="experiments"><ol>{items}</ol></nav>'
    )


def _chapter(out: Path, chapter: "Chapter") -> str:
    one, section = chapter.experiment, chapter.section
    folder = out / one.name
    folder.mkdir(exist_ok=True)
    parts = [
        f'<section aria-labelledby="{one.name}">\n<h2 id="{one.name}">{escape(one.title)}</h2>',
        f'<p class="about">{escape(one.about)}</p>',
    ]
    if chapter.missing:
        command = f"minialex reproduce {one.name}"
        why = "".join(f" Left out: {escape(sentence)}." for sentence in chapter.unmet)
        parts.append(
            f'<p class="missing">Not finished: {chapter.missing} parts of this experiment have not '
            f"been run; <code>{escape(command)}</code> with the same options goes on.{why}</p>"
        )
    if section.findings:
        items = "".join(f"<li>{escape(sentence)}</li>" for sentence in section.findings)
        parts.append(f'<ul class="findings">{items}</ul>')
    for table in section.tables:
        checkpoint.write_text(folder / f"{table.name}.csv", _csv(table))
        parts.append(_table(table))
    parts += [_figure(folder, figure) for figure in section.figures]
    notes = [*section.setting, f"Took {time_taken(chapter.seconds)} in all."]
    parts.append('<p class="quiet">' + "<br>".join(map(escape, notes)) + "</p>\n</section>")
    return "\n".join(parts)


def _figure(folder: Path, figure: Figure | Picture) -> str:
    png = folder / f"{figure.name}.png"
    if isinstance(figure, Figure) and not figure.raster:
        picture = draw(figure, png)
    else:
        if isinstance(figure, Figure):
            draw(figure, png)
        else:
            figure.make(png)
        data = base64.b64encode(png.read_bytes()).decode()
        alt = escape(figure.alt, quote=True)
        picture = f'<img alt="{alt}" src="data:image/png;base64,{data}">'
    return f"<figure>{picture}<figcaption>{escape(figure.caption)}</figcaption></figure>"


def _table(table: Table) -> str:
    words = [any(isinstance(row[i], str) for row in table.rows) for i in range(len(table.columns))]
    head = "".join(
        f'<th scope="col"{_words(is_text)}>{escape(column)}</th>'
        for column, is_text in zip(table.columns, words, strict=True)
    )
    rows = []
    for first, *others in table.rows:
        cells = "".join(
            f"<td{_words(is_text)}>{_cell(value, table.digits)}</td>"
            for value, is_text in zip(others, words[1:], strict=True)
        )
        rows.append(f'<tr><th scope="row">{_cell(first, table.digits)}</th>{cells}</tr>')
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(table.name)}"><table>'
        f"<caption>{escape(table.caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cell(value: Value, digits: int) -> str:
    """As HTML; a number and its spread, and an interval, stay on one line each."""
    shown = escape(text(value, digits))
    if isinstance(value, Measured):
        shown = shown.replace(" ± ", "&nbsp;±&nbsp;").replace(", ", ",&nbsp;")
    return shown


def _words(is_text: bool) -> str:
    """Words stand left in their column, numbers right."""
    return ' class="words"' if is_text else ""


def text(value: Value, digits: int = 1) -> str:
    """A value as the page shows it: a dash for None, `digits` after the point for numbers."""
    if value is None:
        return "–"
    if isinstance(value, Measured):
        return value.text(digits).replace("-", "−")
    if isinstance(value, float):
        return f"{value:.{digits}f}".replace("-", "−")
    return f"{value:,}" if isinstance(value, int) else value


def _csv(table: Table) -> str:
    """Every number whole; a `Measured` column becomes mean, spread, runs and, of a difference, its
    interval."""
    kinds: list[type[Measured] | None] = [
        next((type(value) for value in column if isinstance(value, Measured)), None)
        for column in (list(zip(*table.rows, strict=True)) or [()] * len(table.columns))
    ]
    suffixes: dict[type[Measured] | None, tuple[str, ...]] = {
        None: ("",),
        Measured: (" mean", " standard deviation", " runs"),
        Difference: (" mean", " standard deviation", " runs", " low", " high"),
    }
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    names = zip(table.columns, kinds, strict=True)
    writer.writerow([column + suffix for column, kind in names for suffix in suffixes[kind]])
    for row in table.rows:
        cells: list[object] = []
        for value, kind in zip(row, kinds, strict=True):
            width = len(suffixes[kind])
            found: list[object] = [value]
            if isinstance(value, Measured):
                found = [value.mean, value.spread, len(value.values)]
                if isinstance(value, Difference):
                    found += value.interval or (None, None)
            cells += [*found, *[None] * (width - len(found))]
        writer.writerow(cells)
    return stream.getvalue()


def time_taken(seconds: float) -> str:
    """Seconds in words."""
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
