"""Words and numbers that the HTML and the Markdown report share."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from minialex.experiments.over_seeds import Measured
from minialex.experiments.report.section import Table, Value

if TYPE_CHECKING:
    from minialex.experiments.runner import Chapter

_SCALES = {
    "tiny": "Scale: tiny, a test run. The numbers only show that everything runs.",
    "small": "Scale: small. Fewer images, smaller networks and fewer epochs than in the paper, so "
    "compare only the direction of a difference with the published one.",
    "full": "Scale: full, with the paper's networks and epochs.",
}
STATISTICS = (
    "± is the standard deviation over seeds. Differences are paired by seed, with 95% t-intervals "
    "in brackets. All results are from the last epoch."
)


def scale_notes(chapters: "Sequence[Chapter]") -> list[str]:
    """A sentence for each scale in the report."""
    return [_SCALES[scale] for scale in sorted({c.options.scale for c in chapters})]


def not_run(chapter: "Chapter") -> str:
    """ "3 results have" or "1 result has" """
    count = chapter.not_run
    return f"{count} result{'s have' if count > 1 else ' has'}"


def value_text(value: Value, digits: int = 1) -> str:
    """A value as the reports show it: a dash for None, `digits` after the point for numbers."""
    if value is None:
        return "–"
    if isinstance(value, Measured):
        return value.text(digits).replace("-", "−")
    if isinstance(value, float):
        return f"{value:.{digits}f}".replace("-", "−")
    return f"{value:,}" if isinstance(value, int) else value


def duration(seconds: float) -> str:
    """A time in seconds, minutes or hours, whichever fits."""
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


_CLAIMS = (
    "What the paper says, and what this run shows: differences in percentage points of top-1 error "
    "unless stated otherwise, with 95% intervals. Shown: the whole interval lies on the paper's "
    "side. The opposite: on the other side. Inconclusive: it includes no effect."
)


def claims(chapters: "Sequence[Chapter]") -> Table | None:
    """The table that opens the report: a row for each claim; None if no chapter makes one."""
    rows = [
        (claim.statement, claim.published, claim.found, claim.seeds, claim.verdict)
        for chapter in chapters
        for claim in chapter.section.claims
    ]
    columns = ("claim", "published", "here", "seeds", "verdict")
    return Table("claims", _CLAIMS, columns, rows) if rows else None
