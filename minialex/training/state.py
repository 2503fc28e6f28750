"""All that changes in training, and its way to disk and back."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minialex.errors import InputError, TrainingError
from minialex.inference.classifier import Classifier, from_checkpoint
from minialex.optim import LossScale
from minialex.parallel import DeviceConfig, place
from minialex.training.diagnostics import bad_parameter
from minialex.tree import Tree
from minialex.utils import checkpoint

_COUNTERS = (
    *("step", "epoch", "position", "images", "loss_sum", "seconds", "history"),
    *("loss_scale", "good_steps"),
)
_VELOCITY = "velocity."


@dataclass
class State:
    """Parameters, velocities and counters; nothing else is needed to resume."""

    params: Tree
    velocities: Tree
    step: int = 0  # updates done
    epoch: int = 0  # epochs finished
    position: int = 0  # place in the running epoch's order where it goes on
    images: int = 0  # images seen in it: fewer, if some could not be read
    loss_sum: float = 0.0  # over those images
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    loss_scale: float = LossScale.value  # in half precision (see `LossScale`)
    good_steps: int = 0

    @property
    def errors(self) -> list[float]:
        """Validation top-1 error, an entry an epoch."""
        return [row["val_top1_error"] for row in self.history]

    def save(self, path: Path, classifier: Classifier) -> None:
        """Write the checkpoint; one with a number that is not finite is refused."""
        self.require_finite(path, classifier)
        tensors = {
            f"{_VELOCITY}{layer}.{name}": classifier.backend.to_numpy(value)
            for layer, of_layer in self.velocities.items()
            for name, value in of_layer.items()
        }
        classifier.save(path, {name: getattr(self, name) for name in _COUNTERS}, tensors)

    def require_finite(self, path: Path, classifier: Classifier) -> None:
        """Raise TrainingError if a parameter holds a number that is not finite."""
        bad = bad_parameter(classifier.backend, self.params)
        if bad is not None:
            raise TrainingError(
                f"{bad} is not finite after step {self.step - 1}; {path} holds the last good "
                "state, and a lower learning rate is the usual cure"
            )


def restore(path: Path, devices: DeviceConfig) -> tuple[State, Classifier]:
    """The state and the classifier in a checkpoint, on `devices`."""
    tensors, described = checkpoint.load(path)
    classifier = from_checkpoint(path, tensors, described, devices)
    velocities: Tree = {}
    for layer, of_layer in classifier.params.items():
        for name in of_layer:
            key = f"{_VELOCITY}{layer}.{name}"
            if key not in tensors:
                raise InputError(
                    f"{path} holds weights but no training state: resume from last.safetensors"
                )
            velocities.setdefault(layer, {})[name] = tensors[key]
    counters = described.get("state") or {}
    return State(classifier.params, place(classifier.backend, velocities), **counters), classifier
