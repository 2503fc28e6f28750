"""Class names in a text file: one per line, in the order of a network's outputs."""

import re
from dataclasses import replace
from pathlib import Path

from minialex.errors import InputError
from minialex.exchange.portable import PortableModel

_LARGEST = 1 << 24  # bytes
_ID = re.compile(r"(n\d{8})\s+(.+)")


def named(portable: PortableModel, path: Path) -> PortableModel:
    """The model with the names in `path`: one per line, a name or a WordNet id and a name.

    With ids, data sets that call their classes by id (ILSVRC's folders) fit the network.
    """
    if path.stat().st_size > _LARGEST:
        raise InputError(f"{path} has {path.stat().st_size:,} bytes: it is not a list of classes")
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a text file ({error})") from None
    lines = [line for line in lines if line]
    classes = portable.model.network.classes
    if len(lines) != classes:
        raise InputError(f"{path} has {len(lines)} classes, the network has {classes} outputs")
    pairs = [match.groups() for line in lines if (match := _ID.fullmatch(line))]
    ids = [match[0] for match in pairs] if len(pairs) == len(lines) else lines
    if len(set(ids)) != len(ids):
        repeated = next(one for one in ids if ids.count(one) > 1)
        raise InputError(f"{path} names the class {repeated!r} twice")
    if ids is lines:
        return replace(portable, class_names=tuple(lines))
    names = tuple(name for _, name in pairs)
    return replace(portable, class_names=names, class_ids=tuple(ids))
