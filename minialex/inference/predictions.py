"""The most probable classes of images, and how notebooks show them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from types import MappingProxyType

import numpy as np

from minialex.inference.given_images import Batch
from minialex.inference.trained_model import require_finite
from minialex.utils.inline_image import inline_image

_PICTURES = 16  # images that predictions keep for a notebook
_SIDE = 112  # pixels of their height there


@dataclass(frozen=True)
class Prediction:
    """A class and its probability in 0 … 1."""

    name: str
    probability: float


class Predictions(list[list[Prediction]]):
    """The most probable classes of each image; notebooks show them as bars beside the image.

    `pictures` are the first of the images, by number, as the network's recipe resizes them.
    """

    def __init__(
        self,
        rows: Iterable[list[Prediction]] = (),
        pictures: Mapping[int, np.ndarray] = MappingProxyType({}),
    ):
        super().__init__(rows)
        self.pictures = dict(pictures)

    def _repr_html_(self) -> str:
        rows = (
            _bars(number if len(self) > 1 else None, row, self.pictures.get(number))
            for number, row in enumerate(self, 1)
        )
        return "".join(rows)


def _bars(number: int | None, row: Sequence[Prediction], picture: np.ndarray | None) -> str:
    """One image and its classes as a table with bars."""
    bar = '<div style="width:{:.0f}px;height:0.8em;background:#4c78b8"></div>'
    lines = "".join(
        f"<tr><td>{escape(one.name)}</td><td>{one.probability:.1%}</td>"
        f'<td style="min-width:160px">{bar.format(160 * one.probability)}</td></tr>'
        for one in row
    )
    shown = "" if picture is None else inline_image(picture, _SIDE)
    table = f"<table>{lines or '<tr><td>not readable</td></tr>'}</table>"
    beside = f'<div style="display:flex;gap:1em;align-items:center">{shown}{table}</div>'
    return beside if number is None else f"<p>image {number}</p>{beside}"


def top_classes(p: np.ndarray, names: Sequence[str], top: int) -> list[list[Prediction]]:
    """The `top` most probable classes of each row of probabilities (N, K), most probable first.

    Raises InputError for probabilities that are not finite.
    """
    best = np.argsort(-require_finite(p), axis=1, kind="stable")[:, :top]
    return [
        [Prediction(names[k], float(row[k])) for k in order]
        for row, order in zip(p, best, strict=True)
    ]


def answers(
    found: Iterable[tuple[Batch, np.ndarray]], names: Sequence[str], top: int
) -> Predictions:
    """`top_classes` of each image; an empty list for one that cannot be read."""
    rows = Predictions()
    pictures: dict[int, np.ndarray] = {}
    for batch, p in found:
        some = iter(top_classes(p, names, top))
        images = iter(next(iter(batch.images.values())))
        for readable in batch.readable:
            rows.append(next(some) if readable else [])
            if readable and len(pictures) < _PICTURES:
                pictures[len(rows)] = next(images)
    rows.pictures = {
        number: image.copy() for number, image in pictures.items() if image.shape[2] == 3
    }
    return rows
