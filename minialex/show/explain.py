"""What a network sees in one photograph, as a page in a single file."""

from collections.abc import Callable
from pathlib import Path

from minialex import __version__
from minialex.errors import InputError
from minialex.inference.classifier import Classifier
from minialex.results.markup import Cell, Html, element, joined, page_css, section, table
from minialex.show import parts
from minialex.show.look import Look, Photo
from minialex.utils import atomic

HERE = Path(__file__).parent
_PARTS = (
    ("answers", "Answers"),
    ("crops", "Crops"),
    ("network", "The network"),
    ("looks", "Where it looks"),
    ("layers", "Every layer"),
    ("kernels", "First-layer kernels"),
)


def explain(
    classifier: Classifier,
    photo: Photo,
    path: Path,
    on_batch: Callable[[int], object] = lambda images: None,
) -> Path:
    """Write the page about `photo` to `path`; -> `path`. `on_batch`: see `saliency.occlusion`."""
    atomic.write_text(path, page(classifier, photo, on_batch))
    return path


def page(
    classifier: Classifier, photo: Photo, on_batch: Callable[[int], object] = lambda images: None
) -> str:
    """The whole page; it needs no server and no network."""
    require_images(classifier)
    look = Look(classifier, photo)
    content: dict[str, Cell] = {
        "answers": parts.answers(look),
        "crops": parts.crops(look),
        "network": joined([parts.network(look), parts.numbers(look)]),
        "looks": parts.where_it_looks(look, on_batch=on_batch),
        "layers": joined([element("p", _HOW, class_="quiet"), parts.layers(look)]),
        "kernels": parts.kernels(classifier),
    }
    shown = [(name, title) for name, title in _PARTS if content[name]]
    links = joined(element("a", title, href=f"#{name}") for name, title in shown)
    sections = (element("div", section(title, content[name]), id=name) for name, title in shown)
    network = classifier.model.network
    about = [
        ("photograph", photo.name),
        (
            "network",
            f"{classifier.model.name}, {network.parameter_count:,} parameters",
        ),
        ("images", classifier.preprocessing.recipe.line()),
    ]
    best = look.top(look.probabilities, 1)[0]
    title = f"{Path(photo.name).name}: {best.name}"
    body = joined(
        [
            element("h1", title),
            element("div", table((), about), class_="about"),
            element("nav", links, class_="parts"),
            element("main", joined(sections)),
            element("p", f"minialex {__version__}", class_="quiet"),
            Html(f"<script>{asset('look.js')}</script>"),
        ]
    )
    return document(title, body, f"<style>{style()}</style>")


_HOW = (
    "Maps are black at zero and white at the layer's largest value; if there are negative "
    "values, zero is grey. Click a map, or use the arrow keys, to enlarge it."
)


def require_images(classifier: Classifier) -> None:
    """Raise InputError for a network whose input is not a photograph."""
    if classifier.model.network.input_shape[2] != 3:
        raise InputError(
            f"{classifier.model.name} reads stacks of {classifier.model.network.input_shape[2]} "
            "channels, not photographs: name a network for images"
        )


def document(title: str, body: Html, head: str) -> str:
    """A whole HTML document."""
    meta = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    )
    top = element("head", joined([Html(meta), element("title", title), Html(head)]))
    whole = element("html", joined([top, element("body", body)]), lang="en")
    return f"<!doctype html>\n{whole.text}\n"


def style() -> str:
    """The style of these pages: light and dark, wide and narrow."""
    return page_css() + asset("look.css")


def asset(name: str) -> str:
    """A file beside this one."""
    return (HERE / name).read_text(encoding="utf-8")
