"""Published errors on the test images of the ImageNet challenge, by year."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from minialex.plots.figure import SERIES, WRONG, pyplot, write


@dataclass(frozen=True)
class ChallengeResult:
    """A published top-5 error, in percent, on the challenge's test images."""

    year: int  # of the challenge whose images these are
    system: str
    top5_error: float
    deep: bool
    source: str


def timeline(path: str | Path, results: Iterable[ChallengeResult]) -> Path:
    """A bar for each result by year, deep networks in blue and hand-crafted features in grey.

    `minialex.experiments.published.CHALLENGE` has the published results from 2010 to 2014.
    """
    plt = pyplot()
    results = sorted(results, key=lambda r: (r.year, -r.top5_error))
    figure, axes = plt.subplots(figsize=(7.5, 0.5 * len(results) + 1.2), layout="constrained")
    colours = [SERIES[0] if r.deep else WRONG for r in results]
    axes.barh(range(len(results)), [r.top5_error for r in results], color=colours)
    axes.set_yticks(range(len(results)), [f"{r.year}  {r.system}" for r in results])
    for y, r in enumerate(results):
        axes.text(r.top5_error + 0.4, y, f"{r.top5_error:g}%", va="center", fontsize=9)
    axes.invert_yaxis()
    axes.set(xlabel="top-5 error on the challenge's test images, %", xlim=(0, 33))
    axes.spines[["top", "right"]].set_visible(False)
    handles = [
        plt.Rectangle((0, 0), 1, 1, color=SERIES[0]),
        plt.Rectangle((0, 0), 1, 1, color=WRONG),
    ]
    axes.legend(
        handles, ["deep networks", "hand-crafted features"], frameon=False, loc="lower right"
    )
    return write(plt, figure, path)
