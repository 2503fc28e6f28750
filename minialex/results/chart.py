"""Curves over epochs as SVG, in the colours of the page."""

from collections.abc import Mapping, Sequence
from html import escape
from math import ceil, floor, isfinite, log10

from minialex.results.markup import Html, text

WIDTH, HEIGHT = 460, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 26, 37  # margins

Point = tuple[float, float]


def chart(
    series: Mapping[str, Sequence[Point]],
    alt: str,
    *,
    percent: bool = False,
    x_label: str = "epoch",
) -> Html | str:
    """A line for each name of `series`, points (x, y) in order; "" if there is nothing to draw.

    Values that are not finite are left out. With `percent` y goes from 0 to 1, else from 0 or the
    smallest value, as losses of one's own may be negative.
    """
    shown = {
        name: [(x, y) for x, y in points if isfinite(y)]
        for name, points in series.items()
        if points
    }
    every = [point for points in shown.values() for point in points]
    if not every:
        return ""
    x_ticks = _ticks(min(x for x, _ in every), max(x for x, _ in every), 8, whole=True)
    heights = [0.0, *(y for _, y in every)]
    y_ticks = [k / 5 for k in range(6)] if percent else _ticks(min(heights), max(heights), 5)
    low, high = min(x for x, _ in every), max(x for x, _ in every)
    bottom, span = y_ticks[0], max(y_ticks[-1] - y_ticks[0], 1e-9)

    def at(x: float, y: float) -> tuple[float, float]:
        along = 0.5 if high == low else (x - low) / (high - low)
        return (
            round(_LEFT + along * (WIDTH - _LEFT - _RIGHT), 1),
            round(HEIGHT - _BOTTOM - (y - bottom) / span * (HEIGHT - _TOP - _BOTTOM), 1),
        )

    parts = []
    for value in y_ticks:
        _, y = at(low, value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        said = f"{value:.0%}" if percent else f"{value:.3g}"
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{said}</text>')
    for value in x_ticks:
        x, _ = at(value, bottom)
        parts.append(f'<text x="{x}" y="{HEIGHT - 19}" text-anchor="middle">{value:g}</text>')
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    parts.append(
        f'<text x="{middle}" y="{HEIGHT - 5}" text-anchor="middle">{escape(x_label)}</text>'
    )
    for number, (name, points) in enumerate(shown.items(), 1):
        if not points:
            continue
        dots = [at(x, y) for x, y in points]
        line = " ".join(f"{x},{y}" for x, y in dots)
        parts.append(f'<polyline class="line{number}" points="{line}"/>')
        if len(dots) <= 3:
            parts += [f'<circle class="line{number}" cx="{x}" cy="{y}" r="3"/>' for x, y in dots]
        left = _LEFT + (number - 1) * 130
        parts.append(f'<line class="line{number}" x1="{left}" x2="{left + 18}" y1="12" y2="12"/>')
        parts.append(f'<text x="{left + 24}" y="16">{escape(name)}</text>')
    return Html(
        f'<svg class="chart" role="img" aria-label="{escape(alt)}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}">{"".join(parts)}</svg>'
    )


def standalone(series: Mapping[str, Sequence[Point]], alt: str) -> str:
    """`chart` with its own colours, for a page with another style, such as a notebook."""
    drawn = chart(series, alt)
    if not drawn:
        return ""
    return f'<div class="minialex-chart"><style>{_STYLE}</style>{text(drawn)}</div>'


_STYLE = "".join(
    f".minialex-chart {rule}"
    for rule in (
        "svg { max-width: 460px; }",
        "text { fill: currentColor; font-size: 13px; }",
        ".grid { stroke: #8886; stroke-width: 1; }",
        "polyline, .minialex-chart line { fill: none; stroke-width: 2; }",
        ".line1 { stroke: #4c78b8; }",
        ".line2 { stroke: #d0622f; }",
        "circle.line1 { fill: #4c78b8; }",
        "circle.line2 { fill: #d0622f; }",
    )
)


def interval_bar(low: float, value: float, high: float) -> Html:
    """An interval in 0 … 1 with the measured value, for a row of a table."""
    return Html(
        '<svg class="interval" aria-hidden="true" viewBox="0 0 100 12" width="100" height="12">'
        '<line class="grid" x1="0" x2="100" y1="6" y2="6"/>'
        f'<line class="line1" x1="{100 * low:.1f}" x2="{100 * high:.1f}" y1="6" y2="6"/>'
        f'<circle class="line1" cx="{100 * value:.1f}" cy="6" r="3.5"/></svg>'
    )


def _ticks(low: float, high: float, most: int, whole: bool = False) -> list[float]:
    """Round numbers from `low` to `high`, at most about `most`; those of y enclose both."""
    if high <= low:
        return [low] if whole else [low, low + 1]
    step = 10.0 ** floor(log10((high - low) / most))
    step = next(step * k for k in (1, 2, 5, 10) if (high - low) / (step * k) <= most)
    if whole:
        step = max(1.0, step)
        return [step * k for k in range(ceil(low / step), floor(high / step) + 1)]
    return [step * k for k in range(floor(low / step), ceil(high / step) + 1)]
