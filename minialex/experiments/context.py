"""The context of an experiment: settings by scale, cached results, runs over several seeds."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from minialex.errors import InputError, TrainingError
from minialex.experiments.cache import CachedResult, NotCached, copy_cells
from minialex.experiments.data import Data
from minialex.experiments.scale import Scaled
from minialex.experiments.training import Diverged, Run, Stopped, train_in
from minialex.utils.interrupt import Interrupt

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


@dataclass
class Context(Scaled):
    """The argument of an experiment's `run`; with `report_only` it reads results and computes none.

    `keep` is a folder that gets a copy of each result's small files, as soon as it is complete.
    `not_run` counts the results missing from a report, `not_installed` names the missing packages,
    and `seconds` adds up the time that its results took, whenever they were computed.
    """

    out: Path
    report_only: bool = False
    keep: Path | None = None
    log: Callable[[str], None] = print
    interrupt: Interrupt | None = None
    not_run: int = 0
    not_installed: list[str] = field(default_factory=list)
    seconds: float = 0.0
    _counted: set[Path] = field(default_factory=set)

    def entry(self, name: str, settings: dict[str, Any]) -> CachedResult:
        """Where the result of these settings is stored."""
        return CachedResult(self.out / "cells", name, settings)

    def cached(
        self,
        name: str,
        settings: dict[str, Any],
        compute: Callable[[Path], Any],
        require: Callable[[], object] | None = None,
    ) -> Any:
        """`compute(folder)`, or its result from disk if these settings have been computed before.

        The settings must name everything the result depends on; both are stored as JSON. If
        `require()` raises InputError, a package is missing: the result is skipped and the report
        says why. Raises NotCached for a skipped result, and in a report for one not yet computed.
        """
        entry = self.entry(name, settings)
        stored = entry.load()
        if stored is None:
            if not self._installed(require) or self.report_only:
                raise NotCached(name)
            stored = self._compute(entry, compute)
        if entry.folder not in self._counted:
            self._counted.add(entry.folder)
            self.seconds += stored["seconds"]
        return stored["result"]

    def _compute(self, entry: CachedResult, compute: Callable[[Path], Any]) -> dict[str, Any]:
        self.check()
        self.log(f"  {entry.name} ...")
        start = time.monotonic()
        entry.folder.mkdir(parents=True, exist_ok=True)
        earlier = entry.folder / "seconds"  # spent before the work was interrupted
        before = float(earlier.read_text()) if earlier.exists() else 0.0
        try:
            result = compute(entry.folder)
        except (Stopped, KeyboardInterrupt):
            earlier.write_text(f"{before + time.monotonic() - start:.3f}")
            raise
        stored = entry.save(result, before + time.monotonic() - start)
        if self.keep is not None:
            copy_cells(self.out / "cells", self.keep)
        self.log(f"  {entry.name}: {stored['seconds']:.0f} s")
        self.check()
        return stored

    def _installed(self, require: Callable[[], object] | None) -> bool:
        try:
            if require is not None:
                require()
        except InputError as missing:
            if str(missing) not in self.not_installed:
                self.not_installed.append(str(missing))
                if not self.report_only:
                    self.log(f"  skipped: {missing}")
            return False
        return True

    def train(
        self,
        name: str,
        data: Data,
        *,
        seed: int,
        until: float | None = None,
        initial: Run | None = None,
        shallow: Run | None = None,
        require: Callable[[], object] | None = None,
        **settings: Any,
    ) -> Run:
        """`minialex.train(**settings)` in a run folder of its own; a finished run is not repeated.

        until    stop after the epoch whose validation error (0 ... 1) is at most this, or whose
                 loss is not finite; without it, a loss that is not finite raises Diverged
        initial  start from the final weights of this run, with a new last layer
        shallow  start a deep VGG from this shallower one
        require  as for `cached`
        """
        key = {"train": {**settings, "seed": seed}, "data": data.key, "until": until}
        start: dict[str, Any] = {}
        if initial is not None:
            key["initial"] = initial.settings
            start = {"initial": initial.weights, "replace_classifier": True}
        if shallow is not None:
            key["shallow"] = shallow.settings
            start = {"shallow": shallow.weights}

        def compute(folder: Path) -> list[dict[str, Any]] | str:
            try:
                return train_in(
                    self, folder / "run", data, settings | start | {"seed": seed}, until
                )
            except TrainingError as error:
                return str(error).split(";")[0]

        title = f"{name}, seed {seed}"
        history = self.cached(title, key, compute, require)
        if isinstance(history, str):
            raise Diverged(f"{title}: {history}")
        return Run(self, self.entry(title, key), data, history)

    def by_seed(
        self, names: Iterable[K], seeds: Iterable[int], run: Callable[[K, int], T]
    ) -> dict[K, dict[int, T]]:
        """{name: {seed: run(name, seed)}}, running every name with one seed before the next seed.

        Runs that diverged or, in a report, have not been run are left out.
        """
        names = list(names)
        results: dict[K, dict[int, T]] = {name: {} for name in names}
        for seed in seeds:
            for name in names:
                value = self.attempt(run, name, seed)
                if value is not None:
                    results[name][seed] = value
        return results

    def attempt(self, run: Callable[..., T], *arguments: Any) -> T | None:
        """`run(*arguments)`; None if it diverged or, in a report, has not been run.

        The latter is counted in `not_run`.
        """
        try:
            return run(*arguments)
        except Diverged as error:
            self.log(f"  {error}")
        except NotCached:
            self.not_run += 1
        return None

    def check(self) -> None:
        """Raise Stopped if a signal has arrived."""
        if self.interrupt is not None and self.interrupt.requested:
            raise Stopped(self.interrupt.requested)
