"""Figures by Matplotlib: SVG in the page's text colour, and a separate PNG file."""

import io
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from minialex.experiments.over_seeds import measured
from minialex.experiments.report.section import Figure
from minialex.utils import atomic

COLOURS = ("#4477aa", "#cc6677", "#2f9e44", "#b8860b", "#8e6bbf", "#777777")
_INK = "#010203"  # a placeholder that becomes the page's text colour


def draw(figure: Figure, png: Path) -> str:
    """Write the PNG, black on white; -> the SVG: text colour of the page, no background."""
    atomic.write_bytes(png, _render(figure, "#000000"))
    return page_svg(_render(figure, _INK).decode(), figure)


def _render(figure: Figure, ink: str) -> bytes:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import rc_context
    from matplotlib.figure import Figure as Canvas

    kind = "svg" if ink == _INK else "png"
    style: dict[Any, Any] = {
        "axes.facecolor": "none" if kind == "svg" else "white",
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
    }
    with rc_context(style):
        canvas = Canvas(figsize=figure.size, layout="constrained")
        figure.draw(canvas)
        stream = io.BytesIO()
        canvas.savefig(
            stream,
            format=kind,
            dpi=150,
            facecolor="none" if kind == "svg" else "white",
            metadata={"Date": None} if kind == "svg" else None,
        )
    return stream.getvalue()


def page_svg(svg: str, figure: Figure) -> str:
    """The SVG as part of the page: no prologue, unique ids, an accessible name."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = svg.replace(_INK, "currentColor")
    name = re.sub(r"[^a-z0-9]+", "-", figure.name.lower())
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', svg)
    opening = f'<svg role="img" aria-label="{escape(figure.alt, quote=True)}" '
    return svg.replace("<svg ", opening, 1)


def curves(
    canvas: Any,
    errors: Mapping[tuple[str, int], Mapping[int, float]],
    names: Sequence[str],
    x_label: str,
    base: int = 10,
) -> None:
    """Top-1 errors, {(name, x): {seed: error}}: a curve through the means, and a dot for each seed.

    x is drawn by its logarithm.
    """
    axes = canvas.subplots()
    for colour, name in zip(COLOURS, names, strict=False):
        found = {x: one for (of, x), by_seed in sorted(errors.items())
                 if of == name and (one := measured(by_seed)) is not None}  # fmt: skip
        axes.plot(list(found), [one.mean for one in found.values()], color=colour, label=name)
        for x, one in found.items():
            axes.plot([x] * len(one.values), one.values, "o", color=colour, markersize=3)
    axes.set_xscale("log", base=base)
    axes.set_xticks(sorted({x for _, x in errors}))
    axes.minorticks_off()
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set(xlabel=x_label, ylabel="top-1 error, %")
    axes.legend()
