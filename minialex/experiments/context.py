"""What an experiment works with: data, seeds and sizes, and results that are kept on disk."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from minialex.data.dataset import Splits
from minialex.errors import InputError, TrainingError
from minialex.experiments.cache import Cell, NotRun
from minialex.experiments.data import Data, open_part, part
from minialex.utils.interrupt import Interrupt

if TYPE_CHECKING:
    from minialex.inference.classifier import Classifier

SCALES = ("tiny", "small", "full")

WATCHED = 300  # validation images after each epoch of a run that is judged at its end

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
Until = Callable[[dict[str, Any]], bool]


class Diverged(Exception):
    """A run's loss did not stay finite; `args[0]` says which and where."""


class Stopped(Exception):
    """A signal ended the work; `args[0]` is its name."""


@dataclass(frozen=True)
class Asked:
    """What the command line asks of an experiment; results do not depend on `where`."""

    data: tuple[str, ...] = ()
    scale: str = "small"
    seeds: int | None = None
    epochs: int | None = None
    pretrain: str | None = None
    where: Mapping[str, Any] = field(default_factory=dict)  # backend, devices, ... of `train`

    def __post_init__(self):
        if self.scale not in SCALES:
            raise InputError(f"unknown scale {self.scale!r}: choose from {', '.join(SCALES)}")
        for name in ("seeds", "epochs"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}: it must be at least 1")


@dataclass
class Context:
    """Given to an experiment's `run`; `report_only` computes nothing and reads what there is."""

    asked: Asked
    out: Path
    report_only: bool = False
    say: Callable[[str], None] = print
    interrupt: Interrupt | None = None
    missing: int = 0  # cells that a report went without
    unmet: list[str] = field(default_factory=list)  # what is not installed, a sentence each
    seconds: float = 0.0  # that the cells of this experiment took, whenever they ran
    _counted: set[Path] = field(default_factory=set)

    # ------------------------------------------------------------------ how much, and of what

    def pick(self, **by_scale: T) -> T:
        """The value for this scale: `pick(tiny=1, small=10, full=90)`."""
        return by_scale[self.asked.scale]

    def epochs(self, **by_scale: int) -> int:
        """The epochs for this scale, or what --epochs says."""
        return self.asked.epochs or self.pick(**by_scale)

    def seeds(self, **by_scale: int) -> range:
        """The seeds for this scale (by default 1, 3 and 1), or as many as --seeds says."""
        return range(self.asked.seeds or self.pick(**(by_scale or SEEDS)))

    def data(self, train: int | None, val: int | None, *, prefer: str = "photographs") -> Data:
        """At most so many images, from all classes: of CIFAR-10 if preferred and given.

        Without any data given, the built-in images.
        """
        sources = sorted(self.asked.data, key=lambda one: _is_cifar(one) != (prefer == "cifar"))
        return _open(sources[0] if sources else None, train, val)

    def photographs(self) -> Data:
        """What the paper's network is trained and judged on at this scale."""
        return self.data(
            self.pick(tiny=48, small=2500, full=None), self.pick(tiny=24, small=2000, full=None)
        )

    def network(self) -> dict[str, Any]:
        """How the paper's network is trained at this scale: settings for `train`.

        Experiments that use them, with `photographs`, share their runs.
        """
        if self.asked.scale == "full":
            return {"model": "alexnet-2012", "epochs": self.epochs(full=91)}
        return {
            "model": "alexnet-64",
            "epochs": self.epochs(tiny=1, small=12),
            "batch_size": self.pick(tiny=16, small=32),
            "lr": self.pick(tiny=0.01, small=0.003),
            "allow_upscaling": True,
        }

    def longer(self) -> dict[str, Any]:
        """As `network` with more epochs, where the small scale's few would say too little."""
        settings = self.network()
        return {**settings, "epochs": settings["epochs"] * self.pick(tiny=2, small=3, full=1)}

    def larger(self, data: Data) -> Data | None:
        """A larger class set to pre-train on: `data` together with what --pretrain names.

        That is the built-in images by default; at full scale None, as there is none by default.
        """
        if self.asked.pretrain is None and self.asked.scale == "full":
            return None
        size = self.pick(tiny=48, small=2000, full=None)
        return data.with_more(_open(self.asked.pretrain, size, 48))

    # ----------------------------------------------------------------------- work that is kept

    def cell(
        self,
        name: str,
        settings: dict[str, Any],
        compute: Callable[[Path], Any],
        require: Callable[[], object] | None = None,
    ) -> Any:
        """`compute(folder)`, once: the next time the same settings give what is on disk.

        `settings` are all that the result depends on, and both go through JSON. `require()` raises
        InputError where something is not installed: the cell is left out, and the report says why.
        """
        cell = Cell(self.out / "cells", name, settings)
        found = cell.load()
        if found is None:
            if not self._installed(require) or self.report_only:
                raise NotRun(name)
            self.check()
            self.say(f"  {name} ...")
            start = time.monotonic()
            cell.folder.mkdir(parents=True, exist_ok=True)
            earlier = cell.folder / "seconds"  # of attempts that were stopped
            before = float(earlier.read_text()) if earlier.exists() else 0.0
            try:
                result = compute(cell.folder)
            except (Stopped, KeyboardInterrupt):
                earlier.write_text(f"{before + time.monotonic() - start:.3f}")
                raise
            found = cell.save(result, before + time.monotonic() - start)
            self.say(f"  {name}: {found['seconds']:.0f} s")
            self.check()
        if cell.folder not in self._counted:
            self._counted.add(cell.folder)
            self.seconds += found["seconds"]
        return found["result"]

    def _installed(self, require: Callable[[], object] | None) -> bool:
        try:
            if require is not None:
                require()
        except InputError as lacking:
            if str(lacking) not in self.unmet:
                self.unmet.append(str(lacking))
                if not self.report_only:
                    self.say(f"  left out: {lacking}")
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
        """`minialex.train(**settings)` in a run folder of its own; ended ones are not run again.

        With `until`, training ends with the epoch whose validation error is at most that, or where
        the loss is no longer finite; without it the latter raises Diverged, each time it is asked
        for. With `initial`, it starts from the weights that run ended with, and a new last layer;
        with `shallow`, a deep VGG starts from that one. `require` is as for `cell`.
        """
        key = {"train": {**settings, "seed": seed}, "data": data.described, "until": until}
        started: dict[str, Any] = {}
        if initial is not None:
            key["initial"] = initial.cell.settings
            started = {"initial": initial.weights, "replace_classifier": True}
        if shallow is not None:
            key["shallow"] = shallow.cell.settings
            started = {"shallow": shallow.weights}

        def compute(folder: Path) -> list[dict[str, Any]] | str:
            try:
                asked = {**settings, **started, "seed": seed}
                return self._train(folder / "run", data, asked, until)
            except TrainingError as error:
                return str(error).split(";")[0]

        title = f"{name}, seed {seed}"
        history = self.cell(title, key, compute, require)
        if isinstance(history, str):
            raise Diverged(f"{title}: {history}")
        return Run(self, Cell(self.out / "cells", title, key), data, history)

    def _train(self, folder: Path, data: Data, settings: dict[str, Any], until: float | None):
        import minialex

        splits = data.kept() if until is not None else data.splits
        if until is None and self.asked.scale != "full":  # all are judged once, at the end
            splits = Splits(splits.train, part(splits.val, WATCHED))

        def go(max_steps: int | None):
            result = minialex.train(
                splits,
                **settings,
                **self.asked.where,
                out=folder,
                resume=(folder / "config.json").exists(),
                max_steps=max_steps,
                progress=self.asked.scale == "full",
            )
            if result.interrupted:
                raise Stopped(result.interrupted)
            return result

        if until is None:
            return go(None).history
        per_epoch = -(-len(data.splits.train) // settings["batch_size"])
        done = _epochs_in(folder)
        history: list[dict[str, Any]] = []
        while True:
            self.check()
            try:
                history = go((done + 1) * per_epoch).history
            except TrainingError:  # at this rate the loss did not stay finite
                return history
            reached = [i for i, row in enumerate(history) if row["val_top1_error"] <= until]
            if reached:
                return history[: reached[0] + 1]
            if len(history) >= settings["epochs"]:
                return history
            done = len(history)

    def by_seed(
        self, names: Iterable[K], seeds: Iterable[int], one: Callable[[K, int], T]
    ) -> dict[K, dict[int, T]]:
        """{name: {seed: one(name, seed)}}: all names with one seed before the next seed.

        What diverged is left out, and what a report finds has not been run, which it counts.
        """
        names = list(names)
        found: dict[K, dict[int, T]] = {name: {} for name in names}
        for seed in seeds:
            for name in names:
                value = self.found(lambda name=name, seed=seed: one(name, seed))  # type: ignore[misc]
                if value is not None:
                    found[name][seed] = value
        return found

    def found(self, work: Callable[[], T]) -> T | None:
        """`work()`, or None where it diverged, or where a report finds that it has not been run.

        The latter is counted in `missing`.
        """
        try:
            return work()
        except Diverged as error:
            self.say(f"  {error}")
        except NotRun:
            self.missing += 1
        return None

    def check(self) -> None:
        """Stop here if a signal asked for it."""
        if self.interrupt is not None and self.interrupt.requested:
            raise Stopped(self.interrupt.requested)


SEEDS = {"tiny": 1, "small": 3, "full": 1}


@dataclass(frozen=True)
class Run:
    """A finished training run: its history, and what it says of the validation images."""

    context: Context
    cell: Cell
    data: Data
    history: list[dict[str, Any]]

    @property
    def folder(self) -> Path:
        return self.cell.folder / "run"

    @property
    def weights(self) -> Path:
        return self.folder / "last.safetensors"

    def classifier(self) -> Classifier:
        """The network as training left it, not its best epoch: the errors chose that one."""
        import minialex

        return minialex.load(self.weights, **self.context.asked.where)

    def on_host(self) -> Classifier:
        """The same on NumPy, for pictures: a report can be made where the run's devices are not."""
        import minialex

        return minialex.load(self.weights, "numpy")

    def predictions(self, crops: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """-> probabilities (N, K) and labels (N,) of the readable validation images."""

        def compute(folder: Path) -> str:
            p, labels = predictions(self.classifier(), self.data.splits.val, crops)
            path = folder / "predictions.npz"
            beside = folder / f"predictions.{os.getpid()}.npz"
            np.savez(beside, probabilities=p.astype(np.float32), labels=labels)
            os.replace(beside, path)
            return path.name

        name = f"{self.cell.name}, {crops} crop{'s' * (crops > 1)}"
        settings = {"predictions": crops, "of": self.cell.settings}
        file = self.context.cell(name, settings, compute)
        with np.load(Cell(self.context.out / "cells", name, settings).folder / file) as stored:
            return stored["probabilities"], stored["labels"]

    def errors(self, crops: int = 1) -> tuple[float, float]:
        """Top-1 and top-5 error on the validation images, in percent."""
        return errors(*self.predictions(crops))

    def recipe_line(self) -> str:
        """The network, its images and its training in one line."""
        from minialex import models

        asked = self.cell.settings["train"]
        classes = len(self.data.splits.train.class_ids)
        recipe = models.get(asked["model"], classes, **(asked.get("model_options") or {})).recipe

        def value(name: str) -> Any:
            given = asked.get(name)
            return getattr(recipe, name) if given is None else given

        rate = f"{value('lr'):g} ({value('schedule')})"
        return (
            f"{asked['model']}, {recipe.line()}; batches of {value('batch_size')}, rate {rate}, "
            f"momentum {value('momentum'):g}, weight decay {value('weight_decay'):g}, "
            f"colour shift {value('colour_noise'):g}, {len(self.history)} epochs"
        )


def predictions(classifier: Classifier, dataset, crops: int) -> tuple[np.ndarray, np.ndarray]:
    """-> probabilities (N, K), labels (N,) of every readable image, in order."""
    from minialex.data.loading.loader import Loader

    loader = Loader(dataset, classifier.preprocessing.recipe.resize)
    rows, labels = [], []
    for batch in loader.batches(np.arange(len(dataset)), 128):
        rows.append(classifier.trained.probabilities(batch.images, crops))
        labels.append(batch.labels)
    return np.concatenate(rows), np.concatenate(labels)


def errors(p: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Top-1 and top-5 error in percent, of probabilities (N, K)."""
    from minialex.inference.evaluation import ranks

    rank = ranks(p, labels)
    return 100 * float(np.mean(rank >= 1)), 100 * float(np.mean(rank >= 5))


def _epochs_in(folder: Path) -> int:
    """How many epochs the history of a run tells of; 0 where there is none."""
    path = folder / "history.csv"
    return len(path.read_text(encoding="utf-8").splitlines()) - 1 if path.exists() else 0


@lru_cache(maxsize=8)
def _open(source: str | None, train: int | None, val: int | None) -> Data:
    return open_part(source, train, val)


def _is_cifar(source: str) -> bool:
    from minialex.data.sources.cifar import is_cifar

    return Path(source).is_dir() and is_cifar(Path(source))
