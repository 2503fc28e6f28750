"""What the live page's requests ask for."""

import hashlib
import io
from collections.abc import Sequence

from minialex.errors import InputError
from minialex.results.markup import Cell, element, joined
from minialex.saliency import guided_gradient
from minialex.show import about_map, live_parts, parts
from minialex.show.look import Look, Photo
from minialex.show.runs import BEST, Recent, Run, Search
from minialex.show.worker import Worker

PARTS = (
    *("answers", "crops", "network", "layers", "looks", "kernels", "curves", "validation"),
    *("layer", "channel", "covered", "unit"),
)
_PHOTOS = 32  # that are remembered


class Page:
    """What the page's requests ask for, computed one after the other."""

    def __init__(self, runs: Sequence[Run]):
        self.runs = tuple(runs)
        self._photos: Recent[list[Photo]] = Recent(_PHOTOS)
        self.worker = Worker()
        self.compute = self.worker.call

    def warm_up(self) -> None:
        """Look at a black photograph: kernels are loaded, so that the first answer is quick."""
        for run in self.runs:
            side = int(run.image_size)
            look = Look(run.classifier(BEST), run.photo(_black(3 * side, 2 * side), "black"))
            live_parts.answers(look)
            parts.network(look)
            name = look.classifier.model.network.layers[-1][0]
            guided_gradient(look.classifier.trained, look.image[None], name, 0)

    # ------------------------------------------------------------------------------ photographs

    def add(self, content: bytes, name: str) -> str:
        """Decode an upload at the size of each run; its key."""
        key = hashlib.blake2b(content, digest_size=16).hexdigest()
        self._photos.of(key, lambda: [run.photo(content, name) for run in self.runs])
        return key

    def knows(self, key: str) -> bool:
        """Whether a photograph is remembered."""
        return key in self._photos

    def choose(self, number: int, index: int) -> str:
        """One of the validation images of a run; its key."""
        chosen = self._run(number)
        chosen.validation_photo(index)  # raises for one that there is not

        def read() -> list[Photo]:
            own = chosen.validation_photo(index)
            size = chosen.image_size
            return [
                own
                if run.image_size == size and type(run.image_size) is type(size)
                else Photo(own.name, chosen.dataset().image(index, run.image_size))
                for run in self.runs
            ]

        key = f"validation-{number}-{index}"
        self._photos.of(key, read)
        return key

    # ------------------------------------------------------------------------------ parts

    def part(self, name: str, asked: dict[str, str]) -> Cell:
        """The HTML of a part of the page; InputError for what there is not."""
        run = self._run(whole_number(asked, "run"))
        if name not in PARTS:
            raise InputError(f"the page has no part {name[:40]!r}")
        if name == "curves":
            return live_parts.curves(run)
        if name == "validation":
            return live_parts.validation(run)
        if name == "kernels":
            return parts.kernels(run.classifier(asked.get("epoch", "")))
        look = self.look(asked)
        if name == "answers":
            return live_parts.answers(look)
        if name == "crops":
            heading = element("h4", f"Mean of {look.crops_said}")
            mean = look.crop_probabilities.mean(axis=0)
            return joined([heading, parts.bars(look, mean), parts.crops(look)])
        if name == "network":
            return joined([parts.network(look, "#layer="), parts.numbers(look)])
        if name == "looks":
            return parts.where_it_looks(look, _label(look, asked))
        if name == "layers":
            return live_parts.layer_list(look)
        layer = asked.get("layer", "")
        if name == "layer":
            return live_parts.layer(look, layer)
        channel = whole_number(asked, "channel")
        if name == "channel":
            return about_map.channel(look, layer, channel)
        if name == "covered":
            return about_map.covered(look, layer, channel)
        pixel = (whole_number(asked, "row"), whole_number(asked, "column"))
        return about_map.unit(look, layer, channel, pixel)

    def searched(self, name: str, asked: dict[str, str], search: Search) -> Cell:
        """The HTML of a part that needs the search of the validation images."""
        look = self.look(asked)
        if not search.read:
            raise InputError(f"no image of {search.dataset.name} can be read")
        if name == "nearest":
            return live_parts.nearest(look, search)
        return live_parts.strongest(
            look, search, asked.get("layer", ""), whole_number(asked, "channel")
        )

    def look(self, asked: dict[str, str]) -> Look:
        """The photograph in the network that a request names."""
        number, key = whole_number(asked, "run"), asked.get("photo", "")
        run = self._run(number)
        if key not in self._photos:
            raise InputError("the photograph is no longer here: choose it again")
        return run.look(asked.get("epoch", ""), key, self._photos[key][number])

    def search(self, asked: dict[str, str]) -> Search:
        """The search that a request needs, to be continued a batch at a time."""
        return self._run(whole_number(asked, "run")).search(asked.get("epoch", ""))

    def _run(self, number: int) -> Run:
        if number >= len(self.runs):
            raise InputError(f"there is no run {number} here")
        return self.runs[number]


def _black(width: int, height: int) -> bytes:
    """A black JPEG."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, "JPEG")
    return file.getvalue()


def _label(look: Look, asked: dict[str, str]) -> int | None:
    """The class that a request names; None for the first answer."""
    if "label" not in asked:
        return None
    label, classes = whole_number(asked, "label"), len(look.classifier.class_names)
    if label >= classes:
        raise InputError(f"there are classes 0 to {classes - 1}, not {label}")
    return label


def whole_number(asked: dict[str, str], name: str) -> int:
    """A number of a request; InputError if there is none."""
    value = asked.get(name, "")
    if not (value.isascii() and value.isdecimal() and len(value) < 10):
        raise InputError(f"{name} is {value[:20]!r}, not a number")
    return int(value)
