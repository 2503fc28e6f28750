"""Matplotlib figures for the report: SVG whose ink follows the page, and PNG beside it."""

import io
import re
from pathlib import Path
from typing import Any

from minialex.experiments.report.section import Figure

COLOURS = ("#4477aa", "#cc6677", "#2f9e44", "#b8860b", "#8e6bbf", "#777777")
_INK = "#010203"  # stands for the page's own ink until the SVG is written


def draw(figure: Figure, png: Path) -> str:
    """Write the PNG, dark on white; -> the SVG for the page, in its ink on no ground."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import rc_context
    from matplotlib.figure import Figure as Sheet

    def sheet(ink: str, **more):
        style: dict[Any, Any] = {
            "axes.facecolor": "none" if ink == _INK else "white",
            "text.color": ink,
            "axes.edgecolor": ink,
            "axes.labelcolor": ink,
            "xtick.color": ink,
            "ytick.color": ink,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "legend.frameon": False,
            "font.size": 9.0,
            "svg.fonttype": "none",
            "svg.hashsalt": figure.name,
            **more,
        }
        with rc_context(style):
            made = Sheet(figsize=figure.size, layout="constrained")
            figure.draw(made)
            stream = io.BytesIO()
            kind = "png" if ink != _INK else "svg"
            made.savefig(
                stream,
                format=kind,
                dpi=150,
                facecolor="white" if kind == "png" else "none",
                metadata={"Date": None} if kind == "svg" else None,
            )
        return stream.getvalue()

    from minialex.utils import checkpoint

    checkpoint.write_bytes(png, sheet("#000000"))
    return page_svg(sheet(_INK).decode(), figure)


def page_svg(svg: str, figure: Figure) -> str:
    """The drawing as a part of the page: no prologue, its ink, an accessible name, no id twice."""
    from html import escape

    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = svg.replace(_INK, "currentColor")
    name = re.sub(r"[^a-z0-9]+", "-", figure.name.lower())
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', svg)
    opening = f'<svg role="img" aria-label="{escape(figure.alt, quote=True)}" '
    return svg.replace("<svg ", opening, 1)
