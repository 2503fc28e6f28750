"""The interface of a weight-file format, and the list of all formats.

Every module of this folder that has a FORMAT is one: adding one takes a new file here and nothing
else.
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
    """A file to read, and what the user said about it.

    as_model      the named network whose weights these are; None: as the file says
    definition    a file beside it that describes the layers, such as Caffe's prototxt
    mean          a file with the mean image, such as Caffe's mean.binaryproto, or a folder of the
                  training images to measure it
    colours       "RGB" or "BGR", the order in which the network takes them; None: as is usual
    for_training  the images' mean will be measured: a file that needs one is not refused
    """

    path: Path
    as_model: str | None = None
    definition: Path | None = None
    mean: Path | None = None
    colours: str | None = None
    for_training: bool = False


@dataclass(frozen=True)
class Format:
    """One format of another program.

    rank      formats are asked in ascending order, and the first that matches is used
    matches   whether a path, with the first `HEAD` bytes of the file (none of a folder), is one
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
    """The formats, in the order in which they are asked."""
    return tuple(sorted(modules_with(formats, "FORMAT"), key=lambda one: one.rank))
