"""minialex: AlexNet from scratch.

    import minialex
    result = minialex.train(model="alexnet-64", epochs=5)
    result.classifier.predict("photo.jpg")

Names only: what stands behind each is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minialex.classifier import Classifier as Classifier
    from minialex.classifier import evaluate as evaluate
    from minialex.classifier import load as load
    from minialex.classifier import predict as predict
    from minialex.data.open import open_data as open_data
    from minialex.data.prepare import prepare as prepare
    from minialex.errors import InputError as InputError
    from minialex.errors import TrainingError as TrainingError
    from minialex.models import AlexNet as AlexNet
    from minialex.network import Network as Network
    from minialex.training import train as train

__version__ = "0.1.0"

_HOMES = {
    "AlexNet": "minialex.models",
    "Classifier": "minialex.classifier",
    "InputError": "minialex.errors",
    "Network": "minialex.network",
    "TrainingError": "minialex.errors",
    "evaluate": "minialex.classifier",
    "load": "minialex.classifier",
    "open_data": "minialex.data.open",
    "predict": "minialex.classifier",
    "prepare": "minialex.data.prepare",
    "train": "minialex.training",
}

__all__ = sorted([*_HOMES, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'minialex' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
