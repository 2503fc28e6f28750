"""The challenge's best errors over the years, from published numbers alone."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from minialex.plots.drawing import SERIES, WRONG, pyplot, write


@dataclass(frozen=True)
class Published:
    """A published top-5 error in per cent on a challenge's test images, and where it stands."""

    year: int  # of the challenge, or of publication where the result is later
    system: str
    top5_error: float
    deep: bool
    source: str


PUBLISHED = (
    Published(2010, "sparse coding", 28.2, False, "the paper, table 1 (ILSVRC-2010 test)"),
    Published(2011, "SIFT + Fisher vectors", 25.7, False, "the paper, table 1 (ILSVRC-2010 test)"),
    Published(2012, "SIFT + Fisher vectors", 26.2, False, "the paper, table 2 (ILSVRC-2012 test)"),
    Published(2012, "7 CNNs* (AlexNet)", 15.3, True, "the paper, table 2 (ILSVRC-2012 test)"),
    Published(2014, "VGG, 7 networks", 7.3, True, "Simonyan and Zisserman (ILSVRC-2014 test)"),
)


def timeline(path: str | Path, results: Iterable[Published] = PUBLISHED) -> Path:
    """A bar for each result, in order of years; networks in blue, hand-made features in grey."""
    plt = pyplot()
    results = sorted(results, key=lambda r: (r.year, -r.top5_error))
    figure, axes = plt.subplots(figsize=(7.5, 0.5 * len(results) + 1.2), layout="constrained")
    colours = [SERIES[0] if r.deep else WRONG for r in results]
    axes.barh(range(len(results)), [r.top5_error for r in results], color=colours)
    axes.set_yticks(range(len(results)), [f"{r.year}  {r.system}" for r in results])
    for y, r in enumerate(results):
        axes.text(r.top5_error + 0.4, y, f"{r.top5_error:g} %", va="center", fontsize=9)
    axes.invert_yaxis()
    axes.set(xlabel="top-5 error on the challenge's test images, %", xlim=(0, 33))
    axes.spines[["top", "right"]].set_visible(False)
    handles = [
        plt.Rectangle((0, 0), 1, 1, color=SERIES[0]),
        plt.Rectangle((0, 0), 1, 1, color=WRONG),
    ]
    axes.legend(
        handles, ["deep networks", "features made by hand"], frameon=False, loc="lower right"
    )
    return write(plt, figure, path)
