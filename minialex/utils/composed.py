"""Names of files and classes in Unicode's composed form (NFC), in which they are compared.

macOS, and some programs that pack archives, write é as e and an accent (NFD); the same name typed
elsewhere is a single character. A file is opened by its name on the disk, and known by this one.
"""

from collections.abc import Iterable
from unicodedata import normalize


def composed(name: str) -> str:
    """A name in composed form."""
    return normalize("NFC", name)


def all_composed(names: Iterable[str]) -> tuple[str, ...]:
    """Names in composed form, or as they are if two would then be the same."""
    before = tuple(names)
    after = tuple(map(composed, before))
    return after if len(set(after)) == len(set(before)) else before


def is_composed(names: Iterable[str]) -> bool:
    """Whether all names are in composed form already."""
    return all(composed(name) == name for name in names)
