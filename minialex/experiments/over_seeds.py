"""Results over several seeds: mean and standard deviation, and paired differences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np


@dataclass(frozen=True)
class Measured:
    """The same quantity measured with several seeds."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return float(np.mean(self.values))

    @property
    def std(self) -> float | None:
        """Standard deviation over seeds; None with one seed."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else None

    def text(self, digits: int = 1) -> str:
        """mean ± standard deviation"""
        text = f"{self.mean:z.{digits}f}"  # z: no minus before zeros
        return text if self.std is None else f"{text} ± {self.std:.{digits}f}"


@dataclass(frozen=True)
class Difference(Measured):
    """A variant's results minus those of its reference, seed by seed."""

    none: ClassVar[float] = 0.0  # the value if there is no difference
    format: ClassVar[str] = "+"

    @property
    def interval(self) -> tuple[float, float] | None:
        """95% confidence interval of the mean (paired t-test); None with one seed."""
        if self.std is None:
            return None
        if self.std < 1e-9:  # rounding alone: the t statistic would be 0/0 or meaningless
            return self.mean, self.mean
        from scipy.stats import ttest_rel

        reference = np.zeros(len(self.values))  # `values` are differences already
        low, high = ttest_rel(self.values, reference).confidence_interval(0.95)
        return float(low), float(high)

    def text(self, digits: int = 1) -> str:
        """mean [95% confidence interval]"""
        shown = f"{self.format}.{digits}f"
        text = f"{self.mean:{shown}}"
        if self.interval is None:
            return text
        low, high = self.interval
        return f"{text} [{low:{shown}}, {high:{shown}}]"

    def seeds_for(self, half_width: float) -> int | None:
        """How many seeds would bring the interval to ± this, if they vary as these do.

        None with one seed, or for more than ten thousand.
        """
        if self.std is None:
            return None
        from scipy.stats import t

        counts = np.arange(2, 10_001)
        enough = t.ppf(0.975, counts - 1) * self.std / np.sqrt(counts) <= half_width
        return int(counts[enough.argmax()]) if enough.any() else None

    @property
    def sign(self) -> int | None:
        """1 or -1 if the interval lies above or below `none`, 0 if it includes it.

        0 also where all seeds have the same value, so that their spread says nothing, or one is
        not finite; None with one seed.
        """
        if self.interval is None:
            return None
        low, high = self.interval
        if low == high != self.none or not np.isfinite(self.mean):  # which proves nothing
            return 0
        return 0 if low <= self.none <= high else 1 if low > self.none else -1

    def verdict(
        self, above: str = "agrees with the paper", below: str = "opposite of the paper"
    ) -> str:
        """The words for the side of 0 on which the interval lies; if on neither, what it is."""
        if self.sign is None:
            return "one seed, so no interval"
        if not np.isfinite(self.mean):
            return "inconclusive, a result is not finite"
        if self.sign == 0 and self.interval == (self.mean, self.mean) and self.mean != self.none:
            return "inconclusive, the seeds do not differ"
        if self.sign == 0:
            return "inconclusive, the interval includes 0"
        return above if self.sign > 0 else below

    def verdict_below(self) -> str:
        """The same for a difference that is below 0 in the paper."""
        return self.verdict("opposite of the paper", "agrees with the paper")


@dataclass(frozen=True)
class Ratio(Difference):
    """A variant's results divided by those of its reference, seed by seed."""

    none: ClassVar[float] = 1.0
    format: ClassVar[str] = ""


def paired(values: Mapping[int, float], reference: Mapping[int, float]) -> Difference | None:
    """values - reference for the seeds that both have; None if there is none."""
    seeds = sorted(set(values) & set(reference))
    return Difference(tuple(values[s] - reference[s] for s in seeds)) if seeds else None


def measured(values: Mapping[int, float] | Sequence[float]) -> Measured | None:
    """All of `values`; None if there are none."""
    numbers = values.values() if isinstance(values, Mapping) else values
    found = tuple(float(v) for v in numbers)
    return Measured(found) if found else None
