"""Numbers measured with several seeds: their mean and spread, and differences of pairs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np


@dataclass(frozen=True)
class Measured:
    """The same quantity with several seeds; `spread` is the standard deviation over them."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return float(np.mean(self.values))

    @property
    def spread(self) -> float | None:
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else None

    def text(self, digits: int = 1, sign: bool = False) -> str:
        """The mean, and after ± the standard deviation over seeds."""
        plus = "+" if sign else ""
        text = f"{self.mean:{plus}z.{digits}f}"  # z: no minus before zeros
        return text if self.spread is None else f"{text} ± {self.spread:.{digits}f}"


@dataclass(frozen=True)
class Difference(Measured):
    """A variant minus what it is compared with, seed by seed."""

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the mean by Student's t over the pairs; None for a single one."""
        if self.spread is None:
            return None
        from scipy.stats import t

        n = len(self.values)
        half = float(t.ppf(0.975, n - 1)) * self.spread / sqrt(n)
        return self.mean - half, self.mean + half

    def text(self, digits: int = 1, sign: bool = True) -> str:
        """The mean, and in brackets its 95 % interval."""
        text = f"{self.mean:+.{digits}f}"
        if self.interval is None:
            return text
        low, high = self.interval
        return f"{text} [{low:+.{digits}f}, {high:+.{digits}f}]"

    def verdict(self, expected: int = 1) -> str:
        """Whether a difference of the sign `expected` shows, in words, by the interval alone."""
        if self.interval is None:
            return "With one seed there is no spread, so no verdict"
        low, high = self.interval
        if low <= 0 <= high:
            return "It did not show: the interval includes 0"
        return "It shows" if (low > 0) == (expected > 0) else "It is the other way round here"


def paired(values: Mapping[int, float], reference: Mapping[int, float]) -> Difference | None:
    """values - reference over the seeds that both have; None if there is none."""
    seeds = sorted(set(values) & set(reference))
    return Difference(tuple(values[s] - reference[s] for s in seeds)) if seeds else None


def measured(values: Mapping[int, float] | Sequence[float]) -> Measured | None:
    """All of `values`; None if there is none."""
    numbers = values.values() if isinstance(values, Mapping) else values
    found = tuple(float(v) for v in numbers)
    return Measured(found) if found else None
