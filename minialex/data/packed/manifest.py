"""manifest.json of a packed data set, validated."""

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from minialex.data.packed.npy import map_array
from minialex.data.statistics import Statistics
from minialex.errors import InputError

MANIFEST = "manifest.json"
FORMAT = "minialex packed images"
VERSION = 1
PARTS = ("train", "val")

_LARGEST_MANIFEST = 64 << 20  # bytes; 1,000 classes and 2,000 shards take 300 thousand
_LARGEST_SIDE = 8192


class Manifest:
    """manifest.json; every value is checked before it is used."""

    def __init__(self, root: Path):
        self.root = root
        self.values = _read(root / MANIFEST)
        self.size = self.number(self.values, "size", 1, _LARGEST_SIDE)
        self.jpeg = self.of(self.values, "pixels", str) == "jpeg"
        self.class_ids = self._words("class_ids")
        self.class_names = self._words("class_names")
        if len(set(self.class_ids)) != len(self.class_ids) or len(self.class_ids) < 2:
            raise self.wrong("class_ids are not two or more different names")
        if len(self.class_names) != len(self.class_ids):
            raise self.wrong("class_names are not as many as class_ids")

    @cached_property
    def statistics(self) -> Statistics:
        """Mean image and colour axes of the training part."""
        entry = self.of(self.values, "statistics", dict)
        mean = self.map(self.of(entry, "mean", dict), "<f4", (self.size, self.size, 3))
        try:
            std = np.array(entry["colour_std"], np.float64).reshape(3)
            axes = np.array(entry["colour_axes"], np.float64).reshape(3, 3)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise self.wrong(f"colour_std or colour_axes is missing or wrong ({error})") from None
        if not all(np.isfinite(values).all() for values in (mean, std, axes)):
            raise self.wrong("the mean or the colour statistics are not finite")
        count = self.number(entry, "images", 1, 1 << 40)
        return Statistics(np.array(mean), std, axes, count)

    def entries(self) -> list[dict[str, Any]]:
        """All files with their sizes and checksums."""
        found = [self.values["statistics"]["mean"]]
        keys = ("labels", "names", "places") if self.jpeg else ("labels", "names")
        for part in PARTS:
            of_part = self.values["parts"][part]
            found += [of_part[key] for key in keys if key in of_part]
            found += of_part["shards"]
        return found

    def map(self, entry: dict, kind: str, shape: tuple[int, ...], header: bool = True):
        name = self.of(entry, "file", str)
        if Path(name).name != name or name in ("", ".", "..") or "\\" in name or "\0" in name:
            raise self.wrong(f"{name!r} is not the plain name of a file")
        path = self.root / name
        if not path.is_file():
            raise InputError(
                f"{str(path)!r}, which {MANIFEST} names, is missing: copy the whole folder again, "
                "or prepare it anew"
            )
        if path.stat().st_size != self.number(entry, "bytes", 1, 1 << 60):
            raise InputError(
                f"{str(path)!r} has {path.stat().st_size:,} bytes, and {MANIFEST} says "
                f"{entry['bytes']:,}: copy the whole folder again, or prepare it anew"
            )
        return map_array(path, kind, shape, header)

    def of(self, values: dict, key: str, kind: type):
        if not isinstance(values.get(key), kind):
            raise self.wrong(f"{key} is missing or no {kind.__name__}")
        return values[key]

    def number(self, values: dict, key: str, low: int, high: int) -> int:
        value = self.of(values, key, int)
        if isinstance(value, bool) or not low <= value <= high:
            raise self.wrong(f"{key} is {value}, which is not between {low:,} and {high:,}")
        return value

    def _words(self, key: str) -> tuple[str, ...]:
        words = self.of(self.values, key, list)
        if not all(isinstance(word, str) for word in words):
            raise self.wrong(f"{key} are not all names")
        return tuple(words)

    def wrong(self, what: str) -> InputError:
        return wrong(self.root / MANIFEST, what)


def wrong(path: Path, what: str) -> InputError:
    """The error for a manifest that cannot be used."""
    return InputError(
        f"{str(path)!r} is damaged or not of `minialex prepare` ({what}): copy the whole folder "
        "again, or prepare it anew"
    )


def checksum(values: dict[str, Any]) -> str:
    """SHA-256 of all other values of a manifest."""
    rest = {key: value for key, value in values.items() if key != "checksum"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _read(path: Path) -> dict[str, Any]:
    if path.stat().st_size > _LARGEST_MANIFEST:
        raise wrong(path, f"it has {path.stat().st_size:,} bytes")
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise wrong(path, f"it is no JSON: {error}") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise wrong(path, f"its format is not {FORMAT!r}")
    if values.get("version") != VERSION:
        raise InputError(
            f"{str(path)!r} is of version {values.get('version')!r}, and this minialex reads "
            f"version {VERSION}: update it, or prepare the data anew"
        )
    if values.get("checksum") != checksum(values):
        raise wrong(path, "its checksum is wrong")
    return values
