"""The frame of the live page: what stands there before a photograph is chosen."""

import json
from collections.abc import Sequence

from minialex.results.markup import Cell, Html, element, joined
from minialex.show.runs import BEST, Run

# name, title, whether it needs a photograph, whether it is open at first
_PARTS = (
    ("answers", "Answers", True, True),
    ("crops", "Crops", True, False),
    ("network", "The network", True, True),
    ("looks", "Where it looks", True, False),
    ("layers", "Every layer", True, True),
    ("nearest", "Nearest images", True, False),
    ("kernels", "First-layer kernels", False, True),
    ("curves", "Curves", False, True),
)


def shell(runs: Sequence[Run]) -> Html:
    """The body of the page."""
    columns = "two" if len(runs) > 1 else "one"
    articles = [_article(number, run) for number, run in enumerate(runs)]
    return joined(
        [
            element("header", joined([element("h1", "minialex"), _choose()])),
            element("main", joined(articles), class_=f"runs {columns}"),
            element("p", "", id="said", role="status"),
            Html(
                '<script src="/assets/look.js"></script>'
                '<script type="module" src="/assets/page.js"></script>'
            ),
        ]
    )


def _choose() -> Html:
    """The ways to choose a photograph."""
    return Html(
        '<div class="choose">'
        '<label class="drop" id="drop">Drop a photograph here, or choose one'
        '<input type="file" id="file" accept="image/*"></label>'
        '<button type="button" id="webcam" aria-expanded="false" aria-controls="camera">Webcam'
        "</button>"
        '<details id="validation"><summary>Validation images</summary><div></div></details>'
        "</div>"
        '<div id="camera" hidden><video autoplay muted playsinline></video>'
        '<button type="button">Take this picture</button></div>'
    )


def _article(number: int, run: Run) -> Html:
    """One run's column."""
    network = run.classifier(BEST).model.network
    name = run.classifier(BEST).model.name
    epochs = run.epochs()
    about = f"{name}, {network.parameter_count:,} parameters, {network.classes:,} classes"
    content: list[Cell] = [
        element("h2", run.name),
        element("p", about, class_="quiet"),
        element("p", "Choose a photograph to see it in this network.", class_="no-photo"),
        _slider(number, epochs),
    ]
    for part, title, needs_photo, opened in _PARTS:
        attributes = {"open": ""} if opened else {}
        holder = element("div", "", class_="content")
        content.append(
            element(
                "details",
                joined([element("summary", title), holder]),
                class_="part",
                **{"data-part": part, "data-photo": str(int(needs_photo))},
                **attributes,
            )
        )
    chosen = element("div", "", class_="chosen-map", tabindex="-1")  # of the map that is clicked
    data = {"data-run": str(number), "data-epochs": json.dumps(epochs)}
    return element("article", joined([*content, chosen]), **data)


def _slider(number: int, epochs: Sequence[str]) -> Html:
    """A slider over the kept checkpoints; hidden where there are only the best weights."""
    hidden = "" if len(epochs) > 1 else " hidden"
    last = len(epochs) - 1
    return Html(
        f'<div class="slider"{hidden}><label for="slider-{number}">Weights</label>'
        f'<input type="range" id="slider-{number}" min="0" max="{last}" value="{last}" step="1">'
        f'<output for="slider-{number}">{epochs[-1]}</output>'
        '<button type="button" class="play">Play</button></div>'
    )
