"""results.html: the report of a run or of a cross-validation, in one file that needs no server."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minialex import __version__
from minialex.errors import InputError
from minialex.inference.by_class import by_class, confusion, most_confused
from minialex.inference.classifier import Classifier
from minialex.inference.evaluation import accuracy_interval
from minialex.plots.kernel_sheet import kernel_sheets
from minialex.results.against import Comparison
from minialex.results.chart import chart, interval_bar
from minialex.results.markup import (
    Cell,
    Html,
    element,
    image,
    joined,
    page_css,
    section,
    table,
    tiles,
)
from minialex.results.outcomes import Outcomes
from minialex.results.published_curve import Point
from minialex.utils import atomic

MATRIX = 20  # classes up to which the whole confusion matrix is shown
PAIRS, MISTAKES, CLASSES = 20, 24, 40  # shown at most
SIDE = 128  # pixels of a picture
_HERE = Path(__file__).parent

Picture = tuple[np.ndarray, str]  # uint8 (S, S, 3), and its caption


@dataclass(frozen=True)
class Run:
    """What the page shows; `about` are the lines of the table, `batch` a training batch.

    A cross-validation has `folds` and no classifier of its own: for each fold the number of images
    held out, and how many of them its network classified correctly.
    """

    title: str
    about: dict[str, str]
    history: Sequence[dict[str, Any]]  # the rows of history.csv
    classifier: Classifier | None
    outcomes: Outcomes | None = None  # None: there are no validation images
    batch: Sequence[Picture] = ()
    against: Sequence[Comparison] = ()  # with the published curve called `curve`
    curve: str = ""
    folds: Sequence[tuple[int, int]] = ()


def write(folder: Path, run: Run) -> Path:
    """Write results.html into a run's folder; -> its path."""
    path = folder / "results.html"
    atomic.write_text(path, page(run))
    return path


def page(run: Run) -> str:
    """The whole page."""
    parts = [_curves(run.history), _against(run), _folds(run.folds)]
    if run.outcomes is not None:
        parts += [_classes(run.outcomes), _confusion(run.outcomes), _mistakes(run.outcomes)]
    parts += [_batch(run.batch), _kernels(run.classifier) if run.classifier is not None else ""]
    head = joined(
        [
            Html('<meta charset="utf-8">'),
            Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
            element("title", f"{run.title}: results"),
            Html(
                f"<style>{page_css()}{(_HERE / 'results.css').read_text(encoding='utf-8')}</style>"
            ),
        ]
    )
    body = joined(
        [
            element("h1", run.title),
            element("div", table((), list(run.about.items())), class_="about"),
            _score(run),
            *parts,
            element("p", f"minialex {__version__}", class_="quiet"),
        ]
    )
    whole = joined([element("head", head), element("body", body)])
    return f"<!doctype html>\n{element('html', whole, lang='en').text}\n"


def _score(run: Run) -> Cell:
    found = run.outcomes
    if found is None:
        return element("p", "No images were held out, so the accuracy is unknown.")
    low, high = found.interval
    of = len(found.dataset)
    some = f"{len(found):,}" if len(found) == of else f"{len(found):,} of {of:,}"
    which, by = "validation images", "the best weights"
    if run.folds:
        which, by = "images", "a network that was not trained on them"
    said = (
        f"of {some} {which} are classified correctly by {by} (95% interval: {low:.1%} to "
        f"{high:.1%})."
    )
    if len(run.history) > 1:
        said += (
            f" The best of {len(run.history)} epochs was chosen on these images, so expect "
            "slightly lower accuracy on new ones."
        )
    return joined([element("p", f"{found.accuracy:.1%}", class_="score"), element("p", said)])


def _curves(history: Sequence[dict[str, Any]]) -> Cell:
    def points(column: str, sign: int = 1) -> list[tuple[float, float]]:
        rows = ((row.get("epoch"), row.get(column)) for row in history)
        values = [
            (float(x), float(y)) for x, y in rows if x not in (None, "") and y not in (None, "")
        ]
        return [(x, y if sign > 0 else 1 - y) for x, y in values]

    losses = {"training": points("train_loss"), "validation": points("val_loss")}
    accuracy = {"validation": points("val_top1_error", -1)}
    drawn = [
        ("Loss", chart(losses, "loss by epoch")),
        ("Accuracy", chart(accuracy, "validation accuracy by epoch", percent=True)),
    ]
    figures = [
        element("figure", joined([element("figcaption", title), svg]))
        for title, svg in drawn
        if svg
    ]
    return section("Curves", element("div", joined(figures), class_="pair")) if figures else ""


def _against(run: Run) -> Cell:
    if not run.curve:
        return ""
    if not run.against:
        said = f"{run.curve} is no longer there, or has no loss or error that this run has too."
        return section("Against a published run", element("p", said))
    curves = [_beside(one) for one in run.against]
    lines = [*curves, *(one.run for one in run.against)]
    most = max(x for line in lines for x, _ in line)
    units = ((1e6, ", millions"), (1e3, ", thousands"), (1.0, ""))
    unit, name = next((one for one in units if most >= 2 * one[0]), units[-1])
    figures = []
    for one, curve in zip(run.against, curves, strict=True):
        drawn = {
            "this run": [(x / unit, y) for x, y in one.run],
            "published": [(x / unit, y) for x, y in curve],
        }
        percent, axis = one.column.endswith("error"), f"images seen{name}"
        svg = chart(drawn, f"{one.title} by images seen", percent=percent, x_label=axis)
        figures.append(element("figure", joined([element("figcaption", one.title), svg])))
    sentences = joined([element("p", one.sentence) for one in run.against])
    source = element("p", f"Published: {run.curve}.", class_="quiet")
    pair = element("div", joined(figures), class_="pair")
    return section("Against a published run", source, pair, sentences)


def _folds(folds: Sequence[tuple[int, int]]) -> Cell:
    if not folds:
        return ""
    rows: list[list[Cell]] = []
    for number, (images, right) in enumerate(folds, 1):
        low, high = accuracy_interval(right, images)
        bar = interval_bar(low, right / images, high)
        cells = (f"{images:,}", f"{right / images:.1%}", f"{low:.0%} to {high:.0%}")
        rows.append([f"{number}", *cells, bar])
    header = ("fold", "images", "accuracy", "95% interval", "")
    return section("By fold", table(header, rows, class_="classes"))


def _beside(one: Comparison) -> Sequence[Point]:
    """The curve; one much longer than the run is cut at three times its length."""
    end = one.run[-1][0]
    near = [point for point in one.curve if point[0] <= 3 * end]
    return near if one.curve[-1][0] > 5 * end and len(near) > 1 else one.curve


def _classes(found: Outcomes) -> Cell:
    results = by_class(found.dataset.class_names, found.labels, found.right)
    rows: list[list[Cell]] = []
    for one in results[:CLASSES]:
        low, high = one.interval
        bar = interval_bar(low, one.accuracy, high)
        cells = (f"{one.images:,}", f"{one.accuracy:.0%}", f"{low:.0%} to {high:.0%}")
        rows.append([one.name, *cells, bar])
    header = ("class", "images", "accuracy", "95% interval", "")
    more: Cell = ""
    if len(results) > CLASSES:
        more = element(
            "p",
            f"The {CLASSES} classes with the lowest accuracy, of {len(results):,}; "
            "minialex evaluate --by-class lists all.",
            class_="quiet",
        )
    return section("By class", more, table(header, rows, class_="classes"))


def _confusion(found: Outcomes) -> Cell:
    names = found.dataset.class_names
    if len(names) <= MATRIX:
        cells = confusion(found.labels, found.predicted, len(names))
        header = ("", *names)
        rows: list[list[Cell]] = [
            [name, *(_matrix_cell(row, i, j) for j in range(len(names)))]
            for i, (name, row) in enumerate(zip(names, cells, strict=True))
        ]
        said = "Rows are the true classes, columns the predicted classes."
        matrix = _as_matrix(header, rows)
        return section("Confusion", element("p", said, class_="quiet"), matrix)
    pairs = most_confused(found.labels, found.predicted, PAIRS)
    if not pairs:
        return ""
    counts = np.bincount(found.labels, minlength=len(names))
    rows = [[names[a], names[b], f"{n:,}", f"{n / counts[a]:.0%}"] for a, b, n in pairs]
    header = ("class", "predicted as", "images", "of the class")
    return section("Most confused", table(header, rows, class_="pairs"))


def _matrix_cell(row: np.ndarray, i: int, j: int) -> Html:
    count, share = int(row[j]), row[j] / max(1, row.sum())
    colour = "var(--accent)" if i == j else "#d0622f"
    style = f"background:color-mix(in srgb, {colour} {55 * share:.0f}%, transparent)"
    hit = ' class="hit"' if i == j else ""
    return Html(f'<td{hit} style="{style}">{count if count else ""}</td>')


def _as_matrix(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Html:
    """`table` of cells that are <td> themselves, for their colours."""
    lines = [joined([element("th", row[0], scope="row"), *row[1:]]) for row in rows]
    head = element("tr", joined(element("th", name, scope="col") for name in header))
    body = element("tbody", joined(element("tr", line) for line in lines))
    return element(
        "div", element("table", joined([element("thead", head), body])), class_="wide matrix"
    )


def _mistakes(found: Outcomes) -> Cell:
    if found.dataset.channels != 3:
        return ""
    names, shown = found.dataset.class_names, []
    for n in found.surest_mistakes(MISTAKES).tolist():
        index = int(found.indices[n])
        try:
            pixels = found.dataset.image(index, SIDE)
        except (InputError, OSError):  # it was read before; the drive may be gone since
            continue
        label, said = names[found.labels[n]], names[found.predicted[n]]
        caption = joined(
            [
                element("b", label),
                f", predicted as {said} with "
                f"{found.probability[n]:.0%} ({label}: {found.own[n]:.0%})",
            ]
        )
        shown.append((image(pixels, f"{label}, predicted as {said}"), caption))
    if not shown:
        none = "The network made no mistakes on these images."
        if not found.right.all():
            none = "The images of the mistakes can no longer be read."
        return section("Most confident mistakes", element("p", none))
    said = "A confident mistake can mean a wrong label: check these first."
    return section("Most confident mistakes", element("p", said, class_="quiet"), tiles(shown))


def _batch(pictures: Sequence[Picture]) -> Cell:
    if not pictures:
        return ""
    said = "Images of one batch as the network saw them in training: cropped and augmented."
    shown = [(image(pixels, caption, side=SIDE), caption) for pixels, caption in pictures]
    return section("A training batch", element("p", said, class_="quiet"), tiles(shown))


def _kernels(classifier: Classifier) -> Cell:
    try:
        sheets = kernel_sheets(classifier)
    except InputError:  # a network without kernels over RGB
        return ""
    figures = [
        element(
            "figure", joined([image(sheet, caption, exact=True), element("figcaption", caption)])
        )
        for caption, sheet in sheets
    ]
    said = "Each is scaled to its largest weight; grey is zero. Colourfulness of noise is 67%."
    shown = element("div", joined(figures), class_="kernels")
    return section("First-layer kernels", element("p", said, class_="quiet"), shown)
