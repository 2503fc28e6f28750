"""A model imported from or exported to another framework, in our memory layouts."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minialex.data.preprocessing import Preprocessing
from minialex.data.statistics import Statistics
from minialex.errors import InputError
from minialex.models import Model
from minialex.tree import Tree


@dataclass(frozen=True)
class PortableModel:
    """A network with its weights and all that is needed to use it, on the host.

    format         where it came from, for messages: "PyTorch", "Caffe"
    model          a named network, or any other through `models.layer_list`
    params         float32 arrays in our layouts: R S C/G K, and dense layers' rows in H W C order
    preprocessing  what the network expects of a photograph (RGB, 0 to 255)
    class_names    None if the file has none: the classes are then numbered
    class_ids      None if they are the same as the names
    velocities     of a training run that can be continued, like `params`; None if there are none
    state          the run's counters and learning rates, such as {"step": 10000}
    notes          sentences on what was left out or assumed, for the user
    data           the record of the images that the weights were trained on
    """

    format: str
    model: Model
    params: Tree
    preprocessing: Preprocessing
    class_names: tuple[str, ...] | None = None
    class_ids: tuple[str, ...] | None = None
    velocities: Tree | None = None
    state: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()
    data: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for tree in (self.params, self.velocities):
            if tree is not None:
                require_shapes(self.format, tree, self.model)
        classes = self.model.network.classes
        for names in (self.class_names, self.class_ids):
            if names is not None and len(names) != classes:
                raise InputError(
                    f"there are {len(names)} class names, but the network has {classes} outputs"
                )

    @property
    def names(self) -> tuple[str, ...]:
        """The class names, or numbers if there are none."""
        return self.class_names or tuple(map(str, range(self.model.network.classes)))

    @property
    def ids(self) -> tuple[str, ...]:
        """The class ids used by data sets."""
        return self.class_ids or self.names


def require_shapes(source: str, params: Tree, model: Model) -> None:
    """Raise InputError unless `params` are exactly the parameters of the model's network."""
    shapes = model.network.parameter_shapes()
    missing, odd = sorted(set(shapes) - set(params)), sorted(set(params) - set(shapes))
    if missing or odd:
        what = f"has no {missing[0]}" if missing else f"has a layer {odd[0]} that the network lacks"
        raise InputError(f"the file ({source}) does not fit {model.name}: it {what}")
    for layer, of in shapes.items():
        for name, shape in of.items():
            found = tuple(getattr(params[layer].get(name), "shape", ()))
            if found != tuple(shape):
                raise InputError(
                    f"the file ({source}) does not fit {model.name}: {layer}.{name} is {found} but "
                    f"must be {tuple(shape)}"
                )


def colour_statistics(size: int, mean: tuple[float, ...]) -> Statistics:
    """Statistics that subtract a colour (0 to 255) everywhere; no principal components."""
    channels = len(mean)
    image = np.broadcast_to(np.array(mean, np.float32), (size, size, channels)).copy()
    return Statistics(image, np.zeros(channels), np.eye(channels), 0)


def image_statistics(mean: np.ndarray) -> Statistics:
    """Statistics that subtract an image, (S, S, C) of values 0 to 255; no principal components."""
    channels = mean.shape[2]
    return Statistics(mean.astype(np.float32), np.zeros(channels), np.eye(channels), 0)
