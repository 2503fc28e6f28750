"""Data, epochs, seeds and training settings at each scale: tiny, small and full."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from minialex.experiments.data import Data, open_subset
from minialex.experiments.options import Options

T = TypeVar("T")

SEEDS = {"tiny": 1, "small": 3, "full": 1}


@dataclass
class Scaled:
    """The choices that depend on --scale and the options that override them."""

    options: Options

    def pick(self, **by_scale: T) -> T:
        """The value for this scale: `pick(tiny=1, small=10, full=90)`."""
        return by_scale[self.options.scale]

    def epochs(self, **by_scale: int) -> int:
        """--epochs if it was given, else the epochs for this scale."""
        return self.options.epochs or self.pick(**by_scale)

    def seeds(self, **by_scale: int) -> range:
        """The number of seeds: --seeds if it was given, else that of this scale (1, 3 and 1)."""
        return range(self.options.seeds or self.pick(**(by_scale or SEEDS)))

    def data(self, train: int | None, val: int | None, *, prefer: str = "photographs") -> Data:
        """At most `train` and `val` images, balanced over the classes; None for all of them.

        With several --data, `prefer` ("photographs" or "cifar") chooses; without any, the images
        are the built-in drawings.
        """
        sources = sorted(self.options.data, key=lambda one: _is_cifar(one) != (prefer == "cifar"))
        return _open(sources[0] if sources else None, train, val)

    def photographs(self) -> Data:
        """The images that the paper's network is trained and evaluated on at this scale."""
        return self.data(
            self.pick(tiny=48, small=2500, full=None), self.pick(tiny=24, small=2000, full=None)
        )

    def network(self) -> dict[str, Any]:
        """`train` settings of the paper's network at this scale.

        Experiments that use these, with `photographs`, share their training runs.
        """
        if self.options.scale == "full":
            return {"model": "alexnet-2012", "epochs": self.epochs(full=91)}
        return {
            "model": "alexnet-64",
            "epochs": self.epochs(tiny=1, small=12),
            "batch_size": self.pick(tiny=16, small=32),
            "lr": self.pick(tiny=0.01, small=0.003),
            "allow_upscaling": True,
        }

    def long_training(self) -> dict[str, Any]:
        """`network` with more epochs, for when the small scale's are too few to tell."""
        settings = self.network()
        return {**settings, "epochs": settings["epochs"] * self.pick(tiny=2, small=3, full=1)}

    def pretraining_data(self, data: Data) -> Data | None:
        """A data set with more classes to pre-train on: `data` joined with --pretrain.

        --pretrain defaults to the built-in drawings; at full scale it has no default, and without
        it the result is None.
        """
        if self.options.pretrain is None and self.options.scale == "full":
            return None
        size = self.pick(tiny=48, small=2000, full=None)
        return data.joined_with(_open(self.options.pretrain, size, 48))


@lru_cache(maxsize=8)
def _open(source: str | None, train: int | None, val: int | None) -> Data:
    return open_subset(source, train, val)


def _is_cifar(source: str) -> bool:
    from minialex.data.sources.cifar import is_cifar

    return Path(source).is_dir() and is_cifar(Path(source))
