"""The training state, and how it is saved and restored."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from minialex.errors import InputError
from minialex.inference.classifier import Classifier, from_checkpoint
from minialex.optim import Optimizer
from minialex.parallel import Devices
from minialex.training.averaging import Average
from minialex.training.diagnostics import NotFinite, bad_parameter
from minialex.training.step import StepState
from minialex.tree import flatten, map_tree, unflatten
from minialex.utils import checkpoint

_COUNTERS = (
    *("step", "epoch", "position", "images", "loss_sum", "seconds", "history"),
    *("epoch_seconds", "epoch_waited"),
    *("loss_scale", "good_steps", "changed", "rate_factor", "attempts", "trend", "dropped"),
    *("since", "skipped"),
)
_AVERAGE = "average."


@dataclass
class State(StepState):
    """Parameters, the optimiser's slots and counters; nothing else is needed to resume."""

    position: int = 0  # where to continue in the current epoch's order
    images: int = 0  # images seen in it: fewer if some could not be read
    dropped: int = 0  # images of it in steps whose loss was not finite
    loss_sum: float = 0.0  # over the images of all other steps
    seconds: float = 0.0
    epoch_seconds: float = 0.0  # of training in the running epoch, and of it, waiting for data
    epoch_waited: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    changed: str = ""  # note on a resume, for the current epoch's row of the history
    rate_factor: float = 1.0  # of the schedule's rates: lower after each restart
    attempts: int = 0  # restarts so far (see training/recovery.py)
    trend: tuple[int, float, float] = (0, 0.0, float("inf"))  # a `recovery.Trend`
    average: Average = field(default_factory=Average)  # of the weights, over the last epochs

    @property
    def errors(self) -> list[float]:
        """Validation top-1 error, one entry per validated epoch."""
        found = [row["val_top1_error"] for row in self.history]
        return [error for error in found if error is not None]

    def start_epoch(self) -> None:
        """Reset all per-epoch counters."""
        self.position, self.images, self.dropped, self.loss_sum = 0, 0, 0, 0.0
        self.epoch_seconds = self.epoch_waited = 0.0

    def save(self, path: Path, classifier: Classifier) -> None:
        """Write the checkpoint; raises NotFinite if it contains NaN or Inf."""
        self.require_finite(classifier)
        counters = {name: getattr(self, name) for name in _COUNTERS}
        tensors: dict[str, Any] = {}
        for slot, tree in self.slots.items():
            tensors |= flatten(map_tree(classifier.devices.to_numpy, tree), f"{slot}.")
        if self.average.epochs:
            counters["averaged"] = self.average.epochs
            tensors |= flatten(self.average.params, _AVERAGE)
        replace(classifier, params=self.params).save(path, counters, tensors)

    def is_finite(self, classifier: Classifier) -> bool:
        """Whether no parameter contains NaN or Inf."""
        return bad_parameter(classifier.devices, self.params) is None

    def require_finite(self, classifier: Classifier) -> None:
        """Raise NotFinite if a parameter contains NaN or Inf."""
        bad = bad_parameter(classifier.devices, self.params)
        if bad is not None:
            when = f"after step {self.step - 1}" if self.step else "before the first step"
            raise NotFinite(f"{bad} is not finite {when}")


def restore(path: Path, devices: Devices, optimizer: Optimizer) -> tuple[State, Classifier]:
    """The state, with the optimiser's slots, and the classifier in a checkpoint."""
    tensors, described = checkpoint.load(path)
    classifier = from_checkpoint(path, tensors, described, devices)
    counters = dict(described.get("state") or {})
    average, trained = Average(), classifier.model.network.trainable(classifier.params)
    try:
        slots = {
            slot: classifier.devices.to_devices(unflatten(tensors, trained, f"{slot}."))
            for slot in optimizer.slots
        }
        if epochs := counters.pop("averaged", 0):
            average = Average(epochs, unflatten(tensors, classifier.params, _AVERAGE))
    except KeyError as missing:
        if described.get("state") is None:
            raise InputError(
                f"{path} holds weights but no training state: resume from last.safetensors"
            ) from None
        raise InputError(
            f"{path} has no {missing.args[0]}, which the optimizer needs: has its code changed "
            "since the run was started?"
        ) from None
    if unknown := sorted(set(counters) - set(_COUNTERS)):
        raise InputError(
            f"{path} has a training state with {', '.join(unknown)}, which this version of "
            "minialex does not know: resume it with the version that wrote it"
        )
    return State(classifier.params, slots, average=average, **counters), classifier
