"""A forward pass at test time that keeps every layer's output."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from minialex.backends.base import Array, Backend
from minialex.errors import unknown
from minialex.fusion import Stage
from minialex.inference.trained_model import TrainedModel
from minialex.layers import Mode
from minialex.layers.base import Saved
from minialex.tree import Tree

View = tuple[int, int, bool]  # top, left, mirrored: one of `Preprocessing.views`


@dataclass
class Pass:
    """The layers of a model up to `until`, one at a time, with what their backward pass needs.

    Iterating runs the pass: it yields each layer's name and output, on the backend's device.
    """

    b: Backend
    params: Tree
    x: Array
    dtype: str  # of the activations
    stages: tuple[Stage, ...]
    saved: list[tuple[Stage, Saved]] = field(default_factory=list)

    def __iter__(self) -> Iterator[tuple[str, Array]]:
        y = self.x
        for stage in self.stages:
            with self.b.device_context():
                y, kept = stage.forward(self.b, self.params, y, Mode())
            self.saved.append((stage, kept))
            yield stage.name, y

    def outputs(self) -> Iterator[tuple[str, Array]]:
        """The same where no backward pass follows: nothing is saved for it."""
        for name, y in self:
            self.saved.clear()
            yield name, y

    def run(self) -> Array:
        """Run the pass; the last layer's output."""
        y = self.x
        for _, y in self:  # noqa: B007
            pass
        return y


def forward(
    model: TrainedModel, images: np.ndarray, view: View | None = None, until: str | None = None
) -> Pass:
    """The pass of images, uint8 (N, S, S, C), that are still to go through the layers."""
    network = model.network if until is None else model.network.until(until)
    b, params = model.devices.whole(model.params)
    [centre] = model.preprocessing.views(1)
    with b.device_context():
        dtype = b.compute_dtype(model.dtype)
        x = model.preprocessing.test_input(b, images, view or centre, dtype)
        return Pass(b, b.cast_params(params), x, dtype, network.stages(fused=False))


def activations(
    model: TrainedModel,
    images: np.ndarray,
    layers: Iterable[str] | None = None,
    view: View | None = None,
) -> dict[str, np.ndarray]:
    """The outputs of `layers` (None: all), in the network's order, each (N, ...) on the host.

    They are those of every layer by itself: before and after each ReLU and each normalisation.
    """
    wanted = None if layers is None else require_layers(model, layers)
    found = {}
    last = None if not wanted else wanted[-1]
    run = forward(model, images, view, last)
    for name, y in run.outputs():
        if wanted is None or name in wanted:
            found[name] = host(run.b, y)
    return found


def require_layers(model: TrainedModel, layers: Iterable[str]) -> list[str]:
    """`layers` in the network's order; InputError if there is one that the network lacks."""
    names = [name for name, _ in model.network.layers]
    given = set(layers)
    for name in sorted(given - set(names)):
        raise unknown("layer", name, names)
    return [name for name in names if name in given]


def host(b: Backend, x: Array) -> np.ndarray:
    """An array on the host; half precision becomes float32."""
    y = np.asarray(b.to_numpy(x))
    return y if y.dtype in (np.float32, np.float64) else y.astype(np.float32)


def as_computed(run: Pass, dy: np.ndarray) -> Array:
    """An array of the pass's own type on its device."""
    with run.b.device_context():
        return run.b.asarray(dy, run.dtype)
