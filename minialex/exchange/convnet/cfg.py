"""The .cfg files of cuda-convnet: sections with values, and where a network's two files lie."""

import configparser
import re
from dataclasses import dataclass
from pathlib import Path

from minialex.errors import InputError

_LARGEST = 1 << 20  # bytes

_NOTE = re.compile(
    r"#.*(?:uses (?:same )?def file:? *#?([0-9]{1,6})|like #([0-9]{1,6}) \(so uses same file\))"
)

Sections = dict[str, dict[str, str]]  # {section: {key in lower case: value}}


def read(path: Path) -> Sections:
    """The sections of a file, in order; InputError for a file that is none."""
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    if path.stat().st_size > _LARGEST:
        raise InputError(f"{path} has {path.stat().st_size:,} bytes: it is no layer definition")
    parser = configparser.ConfigParser(
        interpolation=None, strict=False, inline_comment_prefixes=(";",), default_section="\0"
    )
    try:
        parser.read_string(path.read_text(encoding="utf-8", errors="replace"))
    except configparser.Error as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path} is not a layer definition ({reason})") from None
    return {name: dict(parser.items(name)) for name in parser.sections()}


@dataclass(frozen=True)
class Definition:
    """Layers and their parameters, from two files; `parameters` is {} where there are none."""

    layers: Sections
    parameters: Sections
    path: Path  # of the layers


def open_pair(path: Path) -> Definition:
    """The definition of which `path` may be either file; the other one lies beside it.

    layers-145.cfg goes with layer-params-145.cfg, and with any whose name goes on from there. To
    parameters whose number no layers have belong those that their authors' note names ("uses def
    file 153"), or else those of the nearest smaller number that have the same names.
    InputError for parameters without layers.
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
        f"{path} defines no layers, and no file of layers with these names lies beside it: name "
        "the layers' own file"
    )


def _has_layers(sections: Sections) -> bool:
    return any("type" in values for values in sections.values())


def _noted(path: Path) -> list[Path]:
    """The files of layers that the notes in a file of parameters name."""
    notes = _NOTE.findall(path.read_text(encoding="utf-8", errors="replace"))
    numbers = [first or second for first, second in notes]
    named = [path.with_name(f"layers-{number}.cfg") for number in numbers]
    longer = [
        one for number in numbers for one in sorted(path.parent.glob(f"layers*-{number}.cfg"))
    ]
    return [one for one in [*named, *longer] if one.is_file()]


def _earlier(path: Path) -> list[Path]:
    """The files of layers beside `path`, those of the nearest smaller number first."""

    def number(name: str) -> int:
        found = re.search(r"[0-9]+", name)
        return int(found[0][:9]) if found else 0

    own = number(path.name)
    found = sorted(path.parent.glob("layers*.cfg"), key=lambda one: (-number(one.name), one.name))
    return [one for one in found if number(one.name) <= own] + [
        one for one in found[::-1] if number(one.name) > own
    ]


def _same_names(layers: Sections, parameters: Sections) -> bool:
    """Whether the parameters are those of the layers that have weights."""
    weighted = {name for name, v in layers.items() if v.get("type") in ("conv", "local", "fc")}
    return weighted <= set(parameters) <= set(layers)
