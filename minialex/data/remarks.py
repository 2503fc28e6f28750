"""What the reader of a data set left out, and what the set lacks; every command prints it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

_KEPT = 100  # names kept for each reason
_SHOWN = 3


class Reason(NamedTuple):
    """Why files are left out, with advice; `lost` if images are missed because of it."""

    text: str
    lost: bool


@dataclass(eq=False)
class Remarks:
    """Files left out, by reason, and sentences about what is missing."""

    names: dict[Reason, list[str]] = field(default_factory=dict)
    counts: dict[Reason, int] = field(default_factory=dict)
    lacking: list[str] = field(default_factory=list)

    def leave_out(self, reason: Reason, name: str) -> None:
        """Count a file or folder that is not read."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        names = self.names.setdefault(reason, [])
        if len(names) < _KEPT:
            names.append(name)

    def lack(self, *sentences: str) -> None:
        """Note what a data set lacks by its own index."""
        self.lacking += sentences

    def add(self, other: "Remarks") -> None:
        """Add the remarks on a part."""
        for reason, count in other.counts.items():
            self.counts[reason] = self.counts.get(reason, 0) + count
            names = self.names.setdefault(reason, [])
            names += other.names[reason][: _KEPT - len(names)]
        self.lacking += other.lacking

    def add_some(self, other: "Remarks", reasons: Sequence[Reason]) -> None:
        """Add what was left out for one of these reasons."""
        for reason in reasons:
            for name in other.names.get(reason, ()):
                self.leave_out(reason, name)

    def lines(self, shown: int = _SHOWN) -> list[str]:
        """A line for each reason, with a few names, and one for each thing that is lacking."""
        return [*(self._line(reason, shown) for reason in self.counts), *self.lacking]

    def problems(self) -> list[str]:
        """The lines about images that are probably missing."""
        lost = [self._line(reason, _SHOWN) for reason in self.counts if reason.lost]
        return [*lost, *self.lacking]

    def report(self) -> Iterator[str]:
        """Every reason, with its names on lines of their own."""
        for reason, count in self.counts.items():
            yield self._line(reason, 0)
            yield from (f"  {name}" for name in self.names[reason])
            if count > len(self.names[reason]):
                yield "  ..."
        yield from self.lacking

    def _line(self, reason: Reason, shown: int) -> str:
        count, names = self.counts[reason], self.names[reason][:shown]
        more = ", ..." if 0 < len(names) < count else ""
        return f"left out: {reason.text}: {count:,}" + f" ({', '.join(names)}{more})" * bool(names)


class _Nothing(Remarks):
    """No remarks, and none can be added: many data sets share this object."""

    def _refuse(self, *_: Any, **__: Any) -> None:
        raise TypeError("the remarks of a data set without any are shared: make Remarks() to add")

    leave_out = lack = add = add_some = _refuse


NONE = _Nothing()  # of a data set that is read completely


def every_line(remarks: Iterable[Remarks]) -> list[str]:
    """The lines of several parts, each once: a set that was split has the same ones twice."""
    return list(dict.fromkeys(line for one in remarks for line in one.lines()))
