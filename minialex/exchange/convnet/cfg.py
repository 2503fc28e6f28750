"""The .cfg files of cuda-convnet: sections with values, and finding a network's two files."""

import configparser
import re
from dataclasses import dataclass
from pathlib import Path

from minialex.errors import InputError, nearest, reason

_LARGEST = 1 << 20  # bytes

_NOTE = re.compile(
    r"#.*(?:uses (?:same )?def file:? *#?([0-9]{1,6})|like #([0-9]{1,6}) \(so uses same file\))"
)

Sections = dict[str, dict[str, str]]  # {section: {key in lower case: value}}


def read(path: Path) -> Sections:
    """The sections of a file, in order; InputError if it is not a .cfg file."""
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}: {nearest(path) or 'check the path'}")
    if path.stat().st_size > _LARGEST:
        raise InputError(f"{path} has {path.stat().st_size:,} bytes: it is not a layer definition")
    parser = configparser.ConfigParser(
        interpolation=None, strict=False, inline_comment_prefixes=(";",), default_section="\0"
    )
    try:
        parser.read_string(path.read_text(encoding="utf-8", errors="replace"))
    except configparser.Error as error:
        raise InputError(f"{path} is not a layer definition ({reason(error)})") from None
    return {name: dict(parser.items(name)) for name in parser.sections()}


@dataclass(frozen=True)
class Definition:
    """Layers and their parameters, from two files; `parameters` is {} if there are none."""

    layers: Sections
    parameters: Sections
    path: Path  # of the layers


def open_pair(path: Path) -> Definition:
    """The definition of which `path` is one file; the other one lies beside it.

    layers-145.cfg belongs to layer-params-145.cfg, and to any file whose name starts like that. If
    no layers have the parameters' number, the authors' note in the file gives it ("uses def file
    153"), or else the nearest smaller number with the same layer names is used. InputError for
    parameters without layers.
    """
    sections = read(path)
    if _has_layers(sections):
        beside = path.with_name(path.name.replace("layers", "layer-params", 1))
        found = beside != path and beside.is_file()
        return Definition(sections, read(beside) if found else {}, path)
    stem = path.name.removesuffix(".cfg").replace("layer-params", "layers", 1)
    while stem:
        layers = path.with_name(f"{stem}.cfg")
        if layers != path and layers.is_file():
            return Definition(read(layers), sections, layers)
        stem = stem.rpartition("-")[0]
    for layers in [*_noted(path), *_earlier(path)]:
        found_layers = read(layers)
        if _has_layers(found_layers) and _same_names(found_layers, sections):
            return Definition(found_layers, sections, layers)
    raise InputError(
        f"{path} defines no layers, and no file with layers of these names lies beside it: give "
        "the layers' own file"
    )


def _has_layers(sections: Sections) -> bool:
    return any("type" in values for values in sections.values())


def _noted(path: Path) -> list[Path]:
    """The layer files that the notes in a parameter file refer to."""
    notes = _NOTE.findall(path.read_text(encoding="utf-8", errors="replace"))
    numbers = [first or second for first, second in notes]
    named = [path.with_name(f"layers-{number}.cfg") for number in numbers]
    longer = [
        one for number in numbers for one in sorted(path.parent.glob(f"layers*-{number}.cfg"))
    ]
    return [one for one in [*named, *longer] if one.is_file()]


def _earlier(path: Path) -> list[Path]:
    """The layer files beside `path`, nearest smaller number first."""

    def number(name: str) -> int:
        found = re.search(r"[0-9]+", name)
        return int(found[0][:9]) if found else 0

    own = number(path.name)
    found = sorted(path.parent.glob("layers*.cfg"), key=lambda one: (-number(one.name), one.name))
    return [one for one in found if number(one.name) <= own] + [
        one for one in found[::-1] if number(one.name) > own
    ]


def _same_names(layers: Sections, parameters: Sections) -> bool:
    """Whether the parameters belong to the layers with weights."""
    weighted = {name for name, v in layers.items() if v.get("type") in ("conv", "local", "fc")}
    return weighted <= set(parameters) <= set(layers)
