"""Types of arguments: how each is parsed from text, and which values are valid in Python.

A type is called with the text of the command line, as argparse does. Its `check` takes a value from
Python: NumPy scalars become plain numbers, and a value out of range raises a clear InputError.
"""

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from minialex.errors import InputError

_LARGEST = 1e30  # for fractional numbers: beyond any sensible value, and within float32


class Argument(Protocol):
    """The type of an argument."""

    def __call__(self, text: str) -> Any:
        """The value of a text; raises ValueError, or argparse's own error with a sentence."""

    def check(self, name: str, value: Any) -> Any:
        """`value` as a plain Python value; raises an InputError that calls it `name` if invalid."""


def plain(value: Any) -> Any:
    """A scalar of NumPy or another array library as a Python number; anything else as it is."""
    return value.item() if getattr(value, "shape", None) == () and hasattr(value, "item") else value


def wrong(name: str, value: Any, expected: str) -> InputError:
    """The error for an invalid argument."""
    said = " ".join(repr(value).split())
    said = said if len(said) <= 60 else f"{said[:57]}..."
    return InputError(f"{name} is {said}: it must be {expected}")


@dataclass(frozen=True)
class Number:
    """A finite number in a range; `read` is int for whole ones, else float."""

    read: Callable[[Any], Any]
    at_least: float | None = None
    above: float | None = None
    below: float | None = None
    at_most: float | None = None

    @property
    def __name__(self) -> str:  # type: ignore[override]
        """What argparse calls the type in its error messages."""
        return self.read.__name__

    def __call__(self, text: str) -> Any:
        return self.read(text)

    def check(self, name: str, value: Any) -> Any:
        found = plain(value)
        if isinstance(found, float) and not math.isfinite(found):
            raise wrong(name, found, f"finite, {self}")
        if self.read is float and isinstance(found, int | float) and abs(found) > _LARGEST:
            raise wrong(name, found, f"{self}, and at most {_LARGEST:g}")
        if isinstance(found, bool) or not isinstance(found, int | float) or not self._holds(found):
            raise wrong(name, found, str(self))
        return self.read(found)

    def _holds(self, value: float) -> bool:
        return (
            (self.read is float or value == int(value))
            and (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
            and (self.at_most is None or value <= self.at_most)
        )

    def __str__(self) -> str:
        ends = [
            *([f"of at least {self.at_least:g}"] if self.at_least is not None else []),
            *([f"above {self.above:g}"] if self.above is not None else []),
            *([f"below {_power(self.below)}"] if self.below is not None else []),
            *([f"at most {self.at_most:g}"] if self.at_most is not None else []),
        ]
        return f"a {'whole ' * (self.read is int)}number {' and '.join(ends)}".strip()


def _power(number: float) -> str:
    return f"2**{int(math.log2(number))}" if number > 1e6 else f"{number:g}"


def integer(at_least: int, below: int | None = None, at_most: int | None = None) -> Number:
    """Whole numbers from `at_least` on."""
    return Number(int, at_least=at_least, below=below, at_most=at_most)


SEED = integer(0, 2**64)  # the key of the random numbers has 64 bits
FRACTION = Number(float, at_least=0, below=1)


@dataclass(frozen=True)
class Flag:
    """True or False; --name and --no-name on the command line."""

    def __call__(self, text: str) -> bool:
        raise NotImplementedError  # argparse.BooleanOptionalAction reads no text

    def check(self, name: str, value: Any) -> bool:
        found = plain(value)
        if not isinstance(found, int) or found not in (0, 1):
            raise wrong(name, found, "True or False")
        return bool(found)


@dataclass(frozen=True)
class Text:
    """A word, such as a name."""

    def __call__(self, text: str) -> str:
        return text

    def check(self, name: str, value: Any) -> str:
        if not isinstance(value, str) or not value:
            raise wrong(name, value, "a name")
        return str(value)


@dataclass(frozen=True)
class FilePath:
    """A path, as text or as a path-like object; `~` is the home folder."""

    def __call__(self, text: str) -> str:
        return text

    def check(self, name: str, value: Any) -> str:
        path = os.fspath(value) if isinstance(value, str | os.PathLike) else None
        if not isinstance(path, str) or not path or "\0" in path:
            raise wrong(name, value, "a path")
        return os.path.expanduser(path)


@dataclass(frozen=True)
class ListOf:
    """Comma-separated values; in Python any iterable of them, or such a text."""

    of: Argument

    __name__ = "list"

    def __call__(self, text: str) -> list:
        return [self.of(part) for part in text.split(",")]

    def check(self, name: str, value: Any) -> tuple:
        if isinstance(value, str):
            try:
                value = self(value)
            except ValueError:
                raise wrong(name, value, "a list") from None
        if isinstance(value, os.PathLike):
            value = [value]
        if not isinstance(value, Iterable):
            raise wrong(name, value, "a list")
        return tuple(self.of.check(f"one of {name}", one) for one in value)


@dataclass(frozen=True)
class Factors:
    """LAYER=R with numbers of at least 0; in Python a dictionary."""

    __name__ = "LAYER=R"

    def __call__(self, text: str) -> tuple[str, float]:
        name, _, value = text.partition("=")
        return name, float(value)

    def check(self, name: str, value: Any) -> dict[str, float]:
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise wrong(name, value, 'a dictionary such as {"conv1": 0.1}')
        number = Number(float, at_least=0)
        return {str(key): number.check(f"{name} of {key}", one) for key, one in value.items()}


@dataclass(frozen=True)
class Settings:
    """NAME=VALUE, where VALUE may be a number or true/false; in Python a dictionary."""

    __name__ = "NAME=VALUE"

    def __call__(self, text: str) -> tuple[str, Any]:
        name, equals, value = text.partition("=")
        if not equals:
            import argparse

            raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
        try:
            return name, json.loads({"True": "true", "False": "false"}.get(value, value))
        except ValueError:
            return name, value

    def check(self, name: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise wrong(name, value, 'a dictionary such as {"towers": 1}')
        return {str(key): plain(one) for key, one in value.items()}
