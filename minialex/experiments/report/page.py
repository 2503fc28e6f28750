"""The HTML report: one self-contained file, with CSV tables and PNG figures next to it."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from minialex import __version__
from minialex.experiments.over_seeds import Measured
from minialex.experiments.report import text
from minialex.experiments.report.figures import draw
from minialex.experiments.report.section import Figure, Picture, Table, Value
from minialex.experiments.report.table_csv import table_csv
from minialex.results.markup import page_css
from minialex.utils import atomic

if TYPE_CHECKING:
    from minialex.experiments.registry import Experiment
    from minialex.experiments.runner import Chapter

_TITLE = "ImageNet Classification with Deep Convolutional Neural Networks: a reproduction"
_HERE = Path(__file__).parent


def write(out: Path, chapters: "Sequence[Chapter]") -> Path:
    """Write report.html, claims.csv and a folder of CSV and PNG files for each experiment.

    -> the page
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup, escape

    def cell(value: Value, digits: int) -> Markup:
        """Keep a mean with its deviation, and an interval, on one line."""
        shown = str(escape(text.value_text(value, digits)))
        if isinstance(value, Measured):
            shown = shown.replace(" ± ", "&nbsp;±&nbsp;").replace(", ", ",&nbsp;")
        return Markup(shown)

    def picture(experiment: "Experiment", figure: Figure | Picture) -> Markup:
        png = out / experiment.name / f"{figure.name}.png"
        if isinstance(figure, Figure):
            svg = draw(figure, png)
            if not figure.raster:
                return Markup(svg)  # our own drawing, whose text Matplotlib escapes
        else:
            figure.make(png)
        data = base64.b64encode(png.read_bytes()).decode()
        return Markup('<img alt="{}" src="data:image/png;base64,{}">').format(figure.alt, data)

    for chapter in chapters:
        folder = out / chapter.experiment.name
        folder.mkdir(exist_ok=True)
        for table in chapter.section.tables:
            atomic.write_text(folder / f"{table.name}.csv", table_csv(table))
    claims = text.claims(chapters)
    if claims:
        atomic.write_text(out / f"{claims.name}.csv", table_csv(claims))
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    html = environment.get_template("report.html.j2").render(
        title=_TITLE,
        version=__version__,
        css=Markup(page_css()),
        scale_notes=text.scale_notes(chapters),
        statistics=text.STATISTICS,
        claims=claims,
        chapters=chapters,
        not_run=text.not_run,
        duration=text.duration,
        text_columns=text_columns,
        cell=cell,
        picture=picture,
    )
    path = out / "report.html"
    atomic.write_text(path, html)
    return path


def text_columns(table: Table) -> list[bool]:
    """Whether each column holds text: text is aligned left, numbers right."""
    columns = range(len(table.columns))
    return [any(isinstance(row[i], str) for row in table.rows) for i in columns]
