"""write a page that explains what a network sees in one photograph"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from minialex.cli.common import add_device_options, add_model_file, load
from minialex.errors import InputError
from minialex.utils.paths import expanded

if TYPE_CHECKING:
    from minialex.parallel import DeviceConfig

EXAMPLES = ("minialex explain photo.jpg --model-file runs/shapes --out page.html",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photo", metavar="PHOTO", help="image file, or shapes:1 for a drawing")
    add_model_file(parser)
    parser.add_argument(
        "--out",
        type=expanded,
        default=Path("explained.html"),
        metavar="FILE",
        help="self-contained page to write: .html (default: explained.html)",
    )
    add_device_options(parser)


def run(photo: str, model_file: Path | None, out: Path, device_config: "DeviceConfig") -> None:
    from minialex.cli.images import is_drawn, listed
    from minialex.show import explain
    from minialex.show.look import Photo
    from minialex.show.look import photo as read
    from minialex.utils.atomic import require_writable
    from minialex.utils.progress import Progress

    if out.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--out {out}: the page is HTML, so its name must end in .html")
    require_writable(out)
    found = listed(photo)
    if len(found) != 1:
        raise InputError(f"{photo} has {len(found):,} images: a page shows one, so give one file")
    classifier = load(model_file, device_config)
    explain.require_images(classifier)
    size = classifier.preprocessing.recipe.image_size
    [item] = found
    if is_drawn(photo):
        given = Photo(item.name, item.read(size))
    else:
        given = read(expanded(item.name), item.name, size)
    with Progress(True).bar("covering parts of it", None) as bar:
        explain.explain(classifier, given, out, on_batch=bar.update)
    print(f"{out}: open it in a browser ({out.stat().st_size / 1e6:.1f} MB)")
