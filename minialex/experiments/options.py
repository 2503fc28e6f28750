"""The options of `minialex reproduce` that an experiment gets."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from minialex.errors import InputError

SCALES = ("tiny", "small", "full")


@dataclass(frozen=True)
class Options:
    """The data, the scale and the repetitions; results do not depend on `device`."""

    data: tuple[str, ...] = ()
    scale: str = "small"
    seeds: int | None = None
    epochs: int | None = None
    pretrain: str | None = None
    device: Mapping[str, Any] = field(default_factory=dict)  # train()'s backend, devices, ...

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise InputError(f"unknown scale {self.scale!r}: choose from {', '.join(SCALES)}")
        for name in ("seeds", "epochs"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}: it must be at least 1")

    def to_json(self) -> dict[str, Any]:
        """The options as stored in reproduce.json."""
        return {
            "data": list(self.data),
            "scale": self.scale,
            "seeds": self.seeds,
            "epochs": self.epochs,
            "pretrain": self.pretrain,
            "where": dict(self.device),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Options":
        """The inverse of `to_json`; TypeError or KeyError for anything else."""
        fields = dict(stored)
        return cls(data=tuple(fields.pop("data")), device=fields.pop("where"), **fields)
