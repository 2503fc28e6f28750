"""Protobuf's text encoding: Caffe's prototxt."""

import re

from minialex.exchange.caffe.message import Message

_SPACE = re.compile(r"\s*+(?:#[^\n]*+\s*+)*+")
_TOKEN = re.compile(
    r"""(?:
        (?P<string> "(?:[^"\\\n]|\\.)*" | '(?:[^'\\\n]|\\.)*')
      | (?P<number> [-+]?
          (?:0[xX][0-9a-fA-F]+ | (?:\d++\.?\d*+|\.\d++)(?:[eE][-+]?\d++)?) [fF]? (?![\w.]))
      | (?P<word> [A-Za-z_]\w*)
      | (?P<mark> [:{}<>\[\],;])
      | (?P<end> \Z))""",
    re.VERBOSE,
)
_DEEPEST = 16


def parse(text: str) -> Message:
    """The message in a prototxt; raises ValueError with the line of an error."""
    return _Reader(text).message(None, 0)


class _Reader:
    def __init__(self, text: str):
        self._text, self._at = text, 0
        self._kind, self._token = "", ""
        self._step()

    def message(self, end: str | None, depth: int) -> Message:
        """Fields up to the mark `end`, or to the end of the text."""
        if depth > _DEEPEST:
            raise self._error("it is nested too deep")
        found = Message()
        while not (self._kind == "end" if end is None else self._token == end):
            if self._kind != "word":
                raise self._error(f"expected the name of a field, not {self._token[:40]!r}")
            name = self._step()
            colon = self._skip(":")
            if self._token in ("{", "<"):
                close = "}" if self._step() == "{" else ">"
                found.add(name, self.message(close, depth + 1))
                self._step()
            elif not colon:
                raise self._error(f"expected a colon after {name}")
            elif self._skip("["):
                while not self._skip("]"):
                    found.add(name, self._value())
                    self._skip(",")
            else:
                found.add(name, self._value())
            self._skip(",") or self._skip(";")
        return found

    def _value(self) -> "int | float | str":
        kind, token = self._kind, self._step()
        if kind == "string":
            text = token[1:-1]
            while self._kind == "string":
                text += self._step()[1:-1]
            return text
        if kind == "word":
            return {"true": 1, "false": 0}.get(token, token)
        if kind != "number":
            raise self._error(f"expected a value, not {token[:40]!r}")
        if token[-1] in "fF" and "x" not in token.lower():
            token = token[:-1]
        try:
            return int(token, 0)
        except ValueError:
            return float(token)

    def _skip(self, mark: str) -> bool:
        if self._kind != "mark" or self._token != mark:
            return False
        self._step()
        return True

    def _step(self) -> str:
        """The current token; moves on to the next."""
        before = self._token
        if (space := _SPACE.match(self._text, self._at)) is not None:
            self._at = space.end()
        match = _TOKEN.match(self._text, self._at)
        if match is None:
            raise self._error("unexpected character")
        self._at = match.end()
        self._kind = match.lastgroup or "end"
        self._token = match[self._kind]
        return before

    def _error(self, what: str) -> ValueError:
        return ValueError(f"line {self._text.count(chr(10), 0, self._at) + 1}: {what}")
