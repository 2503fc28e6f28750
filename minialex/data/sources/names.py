"""Names of ILSVRC: readable class names, and the class in a file's own name."""

import re
from collections import Counter
from functools import cache
from importlib import resources
from pathlib import Path

from minialex.data.sources import labels
from minialex.utils.composed import composed

_FILES = ("synset_words.txt", "LOC_synset_mapping.txt", "words.txt")
_WNID = re.compile(r"n\d{8}")
_OWN_WNID = re.compile(r"(?:.*[/\\:])?(n\d{8})_\d+\.\w+", re.DOTALL)


def read_names(root: Path, class_ids: tuple[str, ...]) -> tuple[str, ...]:
    """Readable class names from lines `<id> <name>, <synonym>...` in `root`.

    Without such a file, the ids; for WordNet ids, the words of ILSVRC-2012's classes.
    """
    path = next((root / name for name in _FILES if (root / name).is_file()), None)
    if path is not None:
        return short_names(class_ids, _words(composed(labels.text(path))))
    if class_ids and all(map(_WNID.fullmatch, class_ids)):
        return short_names(class_ids, wordnet_words())
    return class_ids


@cache
def wordnet_words() -> dict[str, str]:
    """{wnid: "English springer, English springer spaniel"} of ILSVRC-2012's 1,000 classes."""
    text = resources.files("minialex.data.sources").joinpath("wordnet_names.txt").read_text("utf-8")
    return _words("\n".join(line for line in text.splitlines() if not line.startswith("#")))


def _words(text: str) -> dict[str, str]:
    known = {}
    for line in text.splitlines():
        class_id, *words = line.strip().split(maxsplit=1)[:2] or [""]
        known[class_id] = words[0] if words else class_id
    return known


def short_names(class_ids: tuple[str, ...], known: dict[str, str]) -> tuple[str, ...]:
    """The first synonym of each class, or all where two share it, or these and the id.

    ILSVRC has two maillots, one of them also called a tank suit, and two cranes that share theirs.
    """
    full = [known.get(class_id, class_id) for class_id in class_ids]
    short = [words.split(",")[0].strip() for words in full]
    of_short, of_full = Counter(short), Counter(full)
    return tuple(
        s if of_short[s] == 1 else w if of_full[w] == 1 else f"{w} ({i})"
        for i, s, w in zip(class_ids, short, full, strict=True)
    )


def mislabelled(name: str, class_id: str) -> str | None:
    """Why an ILSVRC image cannot belong to its folder's class: its own name gives another."""
    own = _OWN_WNID.fullmatch(name)
    if own is None or not _WNID.fullmatch(class_id) or own[1] == class_id:
        return None
    return f"mislabelled: its name says {own[1]}, but it is in {class_id}"
