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
        text = path.read_text(encoding="utf-8-sig")  # Windows' editors begin with a mark
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a text file ({error})") from None
    numbered = [(i, one.strip()) for i, one in enumerate(text.splitlines(), 1) if one.strip()]
    lines = [line for _, line in numbered]
    classes = portable.model.network.classes
    if len(lines) != classes:
        raise InputError(f"{path} has {len(lines)} classes, the network has {classes} outputs")
    pairs = [match.groups() for line in lines if (match := _ID.fullmatch(line))]
    if 0 < len(pairs) < len(lines):
        number, line = next(one for one in numbered if not _ID.fullmatch(one[1]))
        raise InputError(
            f"{path} has an id and a name in other lines but {line!r} in line {number}: give all "
            "lines both, or none an id"
        )
    ids = [match[0] for match in pairs] if pairs else lines
    if len(set(ids)) != len(ids):
        repeated = next(one for one in ids if ids.count(one) > 1)
        remedy = "an id of its own" if pairs else "its WordNet id too, as in 'n02012849 crane'"
        raise InputError(f"{path} names the class {repeated!r} twice: give each line {remedy}")
    if ids is lines:
        return replace(portable, class_names=tuple(lines))
    names = tuple(name for _, name in pairs)
    return replace(portable, class_names=names, class_ids=tuple(ids))
