"""The interface of a weight-file format, and the list of all formats.

Every module in this folder with a FORMAT is a format: to add one, add a file here and nothing else.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from minialex.exchange import formats
from minialex.exchange.portable import PortableModel
from minialex.utils.plugins import modules_with

HEAD = 4096  # bytes at the start of a file that `matches` gets


@dataclass(frozen=True)
class Request:
    """A file to read, and what the user says about it.

    as_model      the named network that the weights are for; None: according to the file
    definition    a file that describes the layers, such as Caffe's prototxt
    mean          a file with the mean image, such as Caffe's mean.binaryproto, or a folder of the
                  training images to compute it from
    colours       "RGB" or "BGR", the order that the network takes; None: the usual one
    for_training  the images' mean will be measured, so a file that needs one is accepted
    """

    path: Path
    as_model: str | None = None
    definition: Path | None = None
    mean: Path | None = None
    colours: str | None = None
    for_training: bool = False


@dataclass(frozen=True)
class Format:
    """A format of another program.

    rank      formats are tried in ascending order, and the first that matches is used
    matches   whether a path, with the first `HEAD` bytes of the file (none for a folder), is one
    read      the model in it; raises InputError in one sentence for anything it cannot use, and
              never allocates more than a few times the file's size
    suffixes  of the files that it can write
    write     writes a model, on request with its preprocessing, and returns what to say about it
    takes     the fields of a request that it looks at, beside the path and `for_training`
    """

    name: str
    rank: int
    matches: Callable[[Path, bytes], bool]
    read: Callable[[Request], PortableModel]
    suffixes: tuple[str, ...] = ()
    write: Callable[[PortableModel, Path, bool], str] | None = None
    takes: tuple[str, ...] = ("as_model",)


@cache
def all_formats() -> tuple[Format, ...]:
    """The formats, in the order in which they are tried."""
    return tuple(sorted(modules_with(formats, "FORMAT"), key=lambda one: one.rank))
