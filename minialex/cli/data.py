"""describe a data set: classes, image sizes, mean colour, a contact sheet"""

import argparse
import io
from pathlib import Path

from minialex.cli.common import add_json, add_workers, print_json
from minialex.errors import InputError, unknown
from minialex.utils.paths import expanded

EXAMPLES = (
    "minialex data shapes:400",
    "minialex data shapes:400 --figure sheet.png",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "words",
        nargs="+",
        metavar="PATH",
        help="a folder, archives, a list of labels, a packed data set, or shapes:N",
    )
    parser.add_argument(
        "--figure",
        type=expanded,
        metavar="PNG",
        help="write a contact sheet: a few images of each class",
    )
    add_workers(parser)
    add_json(parser)


def run(words: list[str], figure: Path | None, workers: int | None, json: bool) -> None:
    from minialex.data.inspect.contact_sheet import contact_sheet
    from minialex.data.inspect.info import inspect
    from minialex.utils.atomic import write_bytes

    data = _path(words)
    if figure is not None and figure.suffix.lower() not in (".png", ".jpg"):
        raise unknown("file type", figure.suffix or str(figure), (".png", ".jpg"))
    found = inspect(data, workers=workers)
    if figure is not None:
        content = io.BytesIO()
        kind = "PNG" if figure.suffix.lower() == ".png" else "JPEG"
        contact_sheet(data).save(content, kind)
        write_bytes(figure, content.getbuffer())
    if json:
        print_json(found.as_dict())
        return
    print(found)
    if figure is not None:
        print(f"{figure}: a few images of each class")


def _path(words: list[str]) -> str:
    """The data set given; earlier versions required the word `info` before it."""
    if len(words) == 1:
        return words[0]
    if len(words) == 2 and words[0] == "info":
        return words[1]
    raise InputError(
        f"minialex data describes one data set, but {len(words)} were given: {', '.join(words)}"
    )
