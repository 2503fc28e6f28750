"""minialex: AlexNet from scratch.

    import minialex
    result = minialex.train(model="alexnet-64", epochs=5)
    result.classifier.predict("photo.jpg")

Imports are lazy: each name is loaded on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minialex.data.packed.prepare import prepare as prepare
    from minialex.data.sources.open import open_data as open_data
    from minialex.errors import InputError as InputError
    from minialex.errors import TrainingError as TrainingError
    from minialex.inference.classifier import Classifier as Classifier
    from minialex.inference.classifier import evaluate as evaluate
    from minialex.inference.classifier import load as load
    from minialex.inference.classifier import predict as predict
    from minialex.models import AlexNet as AlexNet
    from minialex.network import Network as Network
    from minialex.training.cross_validation import cross_validate as cross_validate
    from minialex.training.find_rate import find_lr as find_lr
    from minialex.training.report import report as report
    from minialex.training.train import train as train

__version__ = "0.1.0"

_HOMES = {
    "AlexNet": "minialex.models",
    "Classifier": "minialex.inference.classifier",
    "InputError": "minialex.errors",
    "Network": "minialex.network",
    "TrainingError": "minialex.errors",
    "cross_validate": "minialex.training.cross_validation",
    "evaluate": "minialex.inference.classifier",
    "find_lr": "minialex.training.find_rate",
    "load": "minialex.inference.classifier",
    "open_data": "minialex.data.sources.open",
    "predict": "minialex.inference.classifier",
    "prepare": "minialex.data.packed.prepare",
    "report": "minialex.training.report",
    "train": "minialex.training.train",
}

__all__ = sorted([*_HOMES, "__version__"])

_PARTS = ("backends", "data", "layers", "losses", "models", "optim", "schedules")


def __getattr__(name: str) -> Any:
    if name in _PARTS:
        return import_module(f"minialex.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'minialex' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
