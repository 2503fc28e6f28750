"""Precision as a policy: the types in which parameters are stored and products are computed.

A backend is given one and computes with it; parameters are cast once per step (`TrainStep`), and
no other code depends on the precision.
"""

from dataclasses import dataclass
from typing import ClassVar

from minialex.errors import InputError, unknown


@dataclass(frozen=True)
class Precision:
    """Data types: `parameters` also for gradients and sums, `compute` for activations and factors.

    `tf32` multiplies float32 numbers on tensor cores, which keep ten bits of the fraction.
    `loss_scaling` multiplies the loss, so that small gradients do not vanish in float16. `int8`
    multiplies 8-bit integers at test time, and is not for training. `exact` is float32 in which
    each output depends on its own inputs alone: without Winograd tiles, which mix neighbours.
    """

    name: str = "fp32"
    parameters: str = "float32"
    compute: str = "float32"
    tf32: bool = False
    loss_scaling: bool = False
    int8: bool = False
    exact: bool = False

    def __str__(self) -> str:
        return self.name

    @property
    def half(self) -> bool:
        """Whether activations are stored in two bytes."""
        return self.compute != self.parameters

    def compute_dtype(self, dtype: str) -> str:
        """The type in which a network of `dtype` computes; float64 networks always use float64."""
        return self.compute if dtype == self.parameters else dtype


PRECISIONS = {
    one.name: one
    for one in (
        Precision(),
        Precision("tf32", tf32=True),
        Precision("bf16", compute="bfloat16"),
        Precision("fp16", compute="float16", loss_scaling=True),
        Precision("int8", int8=True),
        Precision("exact", exact=True),
    )
}
FULL = PRECISIONS["fp32"]


def get(name: str | Precision) -> Precision:
    """The precision called "fp32", "tf32", "bf16", "fp16", "int8" or "exact"."""
    if isinstance(name, Precision):
        return name
    if name not in PRECISIONS:
        raise unknown("precision", name, PRECISIONS)
    return PRECISIONS[name]


def check_training(name: str | Precision) -> None:
    """Raise InputError for a precision that is not for training."""
    if get(name).int8:
        raise InputError(
            "int8 is for predictions: train in fp32, then predict or evaluate in int8 (--precision)"
        )


def check_dtype(name: str | Precision, dtype: str) -> None:
    """Raise InputError for a precision that a network of `dtype` would not compute in."""
    found = get(name)
    if dtype != found.parameters and (found.tf32 or found.half):
        raise InputError(
            f"precision {found} has no effect with `dtype={dtype!r}`, in which all is computed: "
            "leave out `dtype`, or choose `precision='fp32'`"
        )


@dataclass(frozen=True)
class LossScale:
    """Dynamic loss scaling: the factor applied to the loss before the backward pass in fp16.

    Without it, small gradients would underflow to zero. A step whose gradients overflow is skipped
    and the scale is halved; after `patience` good steps in a row the scale is doubled. A compiled
    step decides this on the device (`next_loss_scale` in loss.cu).
    """

    value: float = 2.0**15
    good_steps: int = 0
    patience: int = 1000
    largest: ClassVar[float] = 2.0**24

    def after(self, overflow: bool) -> "LossScale":
        """The scale for the next step."""
        if overflow:
            return LossScale(max(1.0, self.value / 2), 0, self.patience)
        if self.good_steps + 1 < self.patience:
            return LossScale(self.value, self.good_steps + 1, self.patience)
        return LossScale(min(self.largest, self.value * 2), 0, self.patience)
