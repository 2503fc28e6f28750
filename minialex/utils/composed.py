"""Normalises file and class names to Unicode's composed form (NFC) for comparison.

macOS and some archivers write é as e plus a combining accent (NFD), where other systems use one
character. A file is opened by its name on disk and identified by the composed form.
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
