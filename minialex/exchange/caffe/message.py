"""A protobuf message, from either encoding: fields by name, with checked access."""

import math
from typing import Any

_MOST = {"layer": 1024, "layers": 1024, "history": 4096}  # most values of a field; of all others:
_FEW = 32


class Message(dict[str, list[Any]]):
    """{field: [values]}; values are numbers, text, arrays (from blobs) and messages.

    The methods raise ValueError for a value of a kind other than requested.
    """

    def add(self, name: str, value: Any) -> None:
        """Add a value to a field."""
        values = self.setdefault(name, [])
        most = _MOST.get(name, _FEW)
        if len(values) == most:
            raise ValueError(f"it has more than {most} values of {name}")
        values.append(value)

    def sub(self, name: str) -> "Message":
        """The message in a field; an empty one if it has none."""
        found = self.get(name, [])
        return _kind(found[-1], Message, name) if found else Message()

    def subs(self, name: str) -> list["Message"]:
        """All messages in a field."""
        return [_kind(value, Message, name) for value in self.get(name, [])]

    def text(self, name: str, default: str = "") -> str:
        found = self.get(name, [])
        return _kind(found[-1], str, name) if found else default

    def texts(self, name: str) -> list[str]:
        return [_kind(value, str, name) for value in self.get(name, [])]

    def integer(self, name: str, default: int | None = None, *, most: int = 1 << 20) -> int:
        """An integer 0 ... `most`; required unless there is a default."""
        found = self.get(name, [])
        if not found:
            if default is None:
                raise ValueError(f"{name} is missing")
            return default
        return _integer(found[-1], name, most)

    def integers(self, name: str, *, most: int = 1 << 20) -> list[int]:
        return [_integer(value, name, most) for value in self.get(name, [])]

    def number(self, name: str, default: float) -> float:
        found = self.get(name, [])
        return _number(found[-1], name) if found else default

    def numbers(self, name: str) -> list[float]:
        return [_number(value, name) for value in self.get(name, [])]

    def flag(self, name: str, default: bool) -> bool:
        found = self.get(name, [])
        return bool(_kind(found[-1], int, name)) if found else default


def _kind(value: Any, kind: type, name: str) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"{name} is {_short(value)}")
    return value


def _integer(value: Any, name: str, most: int) -> int:
    if not isinstance(value, int) or not 0 <= value <= most:
        raise ValueError(f"{name} is {_short(value)}")
    return int(value)


def _number(value: Any, name: str) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} is {_short(value)}")
    return float(value)


def _short(value: Any) -> str:
    text = "a message" if isinstance(value, Message) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
