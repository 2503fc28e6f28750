"""Writes a weight file for another program, chosen by its suffix."""

from pathlib import Path

from minialex.errors import InputError
from minialex.exchange.formats.format import all_formats
from minialex.exchange.inference_form import with_inverted_dropout, without_batch_norm
from minialex.exchange.portable import PortableModel
from minialex.exchange.read import is_ours
from minialex.utils.paths import expanded


def write(portable: PortableModel, path: str | Path, *, with_preprocessing: bool = False) -> str:
    """Write `path` in the format of its suffix, and return a note for the user.

    `with_preprocessing` makes preprocessing a part of the network if the format supports it.
    Raises InputError for an unknown suffix, for a layer that the other program does not have, and
    instead of replacing a weight file of minialex.
    """
    path = expanded(path)
    writers = {s: one for one in all_formats() if one.write for s in one.suffixes}
    chosen = writers.get(path.suffix.lower())
    if chosen is None or chosen.write is None:
        raise InputError(
            f"{path} has the suffix {path.suffix!r}: choose from {', '.join(sorted(writers))}"
        )
    if not path.parent.is_dir():
        raise InputError(f"there is no folder {path.parent}: choose a folder that exists")
    if path.is_file() and is_ours(path):
        raise InputError(
            f"{path} is a minialex weight file, which the export would replace: choose another file"
        )
    portable = with_inverted_dropout(without_batch_norm(portable))
    return chosen.write(portable, path, with_preprocessing)
