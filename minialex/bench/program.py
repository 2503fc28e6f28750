"""Another program that runs the same networks, to compare speeds with."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec

from minialex.bench.subject import Subject
from minialex.errors import InputError


@dataclass(frozen=True)
class Peer:
    """Another program's training step (None if it has none) and inference."""

    name: str
    train: Callable[[], None] | None
    infer: Callable[[], None]

    def work(self, training: bool) -> Callable[[], None]:
        """What is timed; it must have it."""
        found = self.train if training else self.infer
        assert found is not None, f"{self.name} does not train"
        return found


@dataclass(frozen=True)
class Program:
    """A program that may be installed.

    packages   what must be installed
    trains     whether it can train
    peers      (subject, batch, threads) -> the ways in which it can run it, float32 on the CPU
    int8       the same with 8-bit integers, if it has them
    """

    key: str
    name: str
    packages: tuple[str, ...]
    trains: bool
    peers: Callable[[Subject, int, int | None], list[Peer]]
    int8: Callable[[Subject, int, int | None], list[Peer]] | None = None

    def at(self, precision: str) -> "Program":
        """The program at minialex's precision; in float32, and called so, where it has no int8."""
        if precision != "int8":
            return self
        if self.int8 is None:
            return replace(self, name=f"{self.name} fp32")
        return replace(self, peers=self.int8)

    def require(self, training: bool = False) -> None:
        """Raise InputError if it is not installed, or cannot train and should."""
        for package in self.packages:
            if find_spec(package) is None:
                raise InputError(
                    f"{self.name} needs {package}: `pip install {package}`, or leave out --compare"
                )
        if training and not self.trains:
            raise InputError(f"{self.name} runs networks and does not train them: add --inference")

    def version(self) -> str:
        """The version that is installed, whatever its distribution is called."""
        return str(import_module(self.packages[0]).__version__)
