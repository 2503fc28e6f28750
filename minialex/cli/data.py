"""say what a data set holds: classes and their sizes, image sizes, mean colour, a contact sheet"""

import argparse
import io
from pathlib import Path

from minialex.cli.common import add_json, at_least, print_json
from minialex.errors import unknown

EXAMPLES = (
    "minialex data info shapes:400",
    "minialex data info shapes:400 --figure sheet.png",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("info",), help="what to do with it")
    parser.add_argument(
        "data", metavar="PATH", help="a folder, archives, or a packed set; shapes:N (built in)"
    )
    parser.add_argument(
        "--figure", type=Path, metavar="PNG", help="also draw a few images of each class"
    )
    parser.add_argument("--workers", type=at_least(1), metavar="N", help="threads that decode")
    add_json(parser)


def run(action: str, data: str, figure: Path | None, workers: int | None, json: bool) -> None:
    from minialex.data.inspect.contact_sheet import contact_sheet
    from minialex.data.inspect.info import inspect
    from minialex.utils.atomic import write_bytes

    if figure is not None and figure.suffix.lower() not in (".png", ".jpg"):
        raise unknown("kind of picture", figure.suffix or str(figure), (".png", ".jpg"))
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
