"""All that changes in training, and its way to disk and back."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from minialex.errors import InputError
from minialex.inference.classifier import Classifier, from_checkpoint
from minialex.parallel import Devices
from minialex.training.averaging import Average
from minialex.training.diagnostics import NotFinite, bad_parameter, lower_rate
from minialex.training.step import StepState
from minialex.tree import flatten, map_tree, unflatten
from minialex.utils import checkpoint

_COUNTERS = (
    *("step", "epoch", "position", "images", "loss_sum", "seconds", "history"),
    *("epoch_seconds", "epoch_waited"),
    *("loss_scale", "good_steps", "changed", "rate_factor", "attempts", "trend", "dropped"),
)
_VELOCITY, _AVERAGE = "velocity.", "average."


@dataclass
class State(StepState):
    """Parameters, velocities and counters; nothing else is needed to resume."""

    position: int = 0  # in the running epoch's order where it goes on
    images: int = 0  # images seen in it: fewer, if some could not be read
    dropped: int = 0  # images of it in steps whose loss was not finite
    loss_sum: float = 0.0  # over the images of all other steps
    seconds: float = 0.0
    epoch_seconds: float = 0.0  # of training in the running epoch, and of it, waiting for data
    epoch_waited: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    changed: str = ""  # what the running epoch's row of the history says of a resume
    rate_factor: float = 1.0  # of the schedule's rates: less after each way back
    attempts: int = 0  # ways back that were taken (see training/recovery.py)
    trend: tuple[int, float, float] = (0, 0.0, float("inf"))  # a `recovery.Trend`
    average: Average = field(default_factory=Average)  # of the weights, over the last epochs

    @property
    def errors(self) -> list[float]:
        """Validation top-1 error, an entry an epoch that was validated."""
        found = [row["val_top1_error"] for row in self.history]
        return [error for error in found if error is not None]

    def start_epoch(self) -> None:
        """Set back all that is counted in an epoch."""
        self.position, self.images, self.dropped, self.loss_sum = 0, 0, 0, 0.0
        self.epoch_seconds = self.epoch_waited = 0.0

    def save(self, path: Path, classifier: Classifier) -> None:
        """Write the checkpoint; one with a number that is not finite is refused."""
        self.require_finite(path, classifier)
        velocities = map_tree(classifier.devices.to_numpy, self.velocities)
        counters = {name: getattr(self, name) for name in _COUNTERS}
        tensors = flatten(velocities, _VELOCITY)
        if self.average.epochs:
            counters["averaged"] = self.average.epochs
            tensors |= flatten(self.average.params, _AVERAGE)
        replace(classifier, params=self.params).save(path, counters, tensors)

    def require_finite(self, path: Path, classifier: Classifier) -> None:
        """Raise NotFinite if a parameter holds a number that is not finite."""
        bad = bad_parameter(classifier.devices, self.params)
        if bad is not None:
            raise NotFinite(
                f"{bad} is not finite after step {self.step - 1}; {path} holds the last good "
                f"state: {lower_rate(path.parent, self.rate_factor * classifier.model.recipe.lr)}"
            )


def restore(path: Path, devices: Devices) -> tuple[State, Classifier]:
    """The state and the classifier in a checkpoint."""
    tensors, described = checkpoint.load(path)
    classifier = from_checkpoint(path, tensors, described, devices)
    counters = dict(described.get("state") or {})
    average = Average()
    try:
        velocities = unflatten(tensors, classifier.params, _VELOCITY)
        if epochs := counters.pop("averaged", 0):
            average = Average(epochs, unflatten(tensors, classifier.params, _AVERAGE))
    except KeyError:
        raise InputError(
            f"{path} holds weights but no training state: resume from last.safetensors"
        ) from None
    if unknown := sorted(set(counters) - set(_COUNTERS)):
        raise InputError(
            f"{path} has a training state with {', '.join(unknown)}, which this version of "
            "minialex does not know: resume it with the version that wrote it"
        )
    placed = classifier.devices.to_devices(velocities)
    return State(classifier.params, placed, average=average, **counters), classifier
