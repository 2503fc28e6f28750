"""The captured step as in training: from a batch's bytes to new parameters."""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from minialex import backends, losses, models
from minialex.bench.gpu.plan import Plan, initial_params, timed
from minialex.data.loading.loader import Batch, Loader
from minialex.data.packed.prepare import prepare
from minialex.data.preprocessing import Preprocessing
from minialex.data.sources.open import open_data
from minialex.data.statistics import Statistics
from minialex.optim import SGD, Rates
from minialex.parallel import DeviceConfig, Devices, SingleDevice
from minialex.training.feed import Photographs
from minialex.training.step import StepState, TrainStep
from minialex.tree import leaves

_RATES = Rates(1e-4, 1e-4, 0.1)  # so low that the loss on random labels stays finite
# batches before the timing: those that the loader and both stages of the copy have read ahead are
# there at once, and new pinned memory is allocated until the first is used again
_WARM = 12
_COMPARED = 4  # steps: the first runs op by op, the second is captured


class Whole:
    """Steps on one batch of random bytes, on a backend or on devices opened for the network."""

    def __init__(self, model: str, on: Any, batch: int):
        found = models.get(model)
        size, classes = found.recipe.resize, found.network.classes
        mean = np.full((size, size, 3), 120, np.float32)
        statistics = Statistics(mean, np.array([3.0, 9.0, 60.0]), np.eye(3), 1)
        self._step = TrainStep(
            found.network,
            on if isinstance(on, Devices) else SingleDevice(found.network, on),
            losses.SoftmaxCrossEntropy(),
            SGD(found.recipe),
            feed=Photographs(Preprocessing(found.recipe, statistics)),
            batch_size=batch,
        )
        params = self._step.devices.to_devices(initial_params(model))
        trainable = found.network.trainable(params)
        self.state = StepState(params, self._step.optimizer.start(self._step.devices, trainable))
        numbers = np.arange(batch)
        images = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), np.uint8)
        self._batch = Batch(images, numbers % classes, numbers, numbers, 0, batch)

    def fed(self, batch: Batch | None = None) -> None:
        """One step on bytes on the host."""
        self._step.start(self.state, self._batch if batch is None else batch, _RATES)
        for _ in self._step.finished():
            pass

    def resident(self) -> None:
        """One step on the bytes already on the device."""
        if self.state.step == 0:
            self.fed()
        self._step.replay()

    def end(self) -> None:
        """Wait for all losses."""
        for _ in self._step.finished(wait=True):
            pass


def same_bits(precision: str, plan: Plan) -> dict[str, Any]:
    """Steps as one graph and the same steps op by op: the parameters must be equal to the bit."""
    two, one = [0, 0], 0
    for model, devices in ((plan.model, one), (plan.train_model, one), (plan.model, two)):
        ended = [_parameters(model, devices, precision, plan, by_graph) for by_graph in (0, 1)]
        apart = [" ".join(at) for at, x in ended[0].items() if not np.array_equal(x, ended[1][at])]
        what = f"after {_COMPARED} steps of {model} on {devices}, these are not the same"
        assert not apart, f"{what}: {', '.join(apart)}"
    how = f"of {plan.model}, {plan.train_model} and two towers"
    return {"summary": f"{_COMPARED} steps of {plan.few} images {how}: the same bits"}


def _parameters(
    model: str, devices: Any, precision: str, plan: Plan, by_graph: int
) -> dict[tuple, np.ndarray]:
    """Those of a model after a few steps."""
    opened = DeviceConfig("cupy", devices, precision=precision).open(models.get(model).network)
    if not by_graph:
        opened.compile = lambda step: None  # type: ignore[method-assign]
    program = Whole(model, opened, plan.few)
    for _ in range(_COMPARED):
        program.fed()
    program.end()
    return {(*at,): opened.to_numpy(x) for *at, x in leaves(program.state.params)}


def end_to_end(precision: str, batch: int, plan: Plan) -> dict[str, float]:
    """Training from a packed set in the page cache, compared with a batch on the device.

    The set consists of drawn images, few enough to be read several times.
    """
    b: Any = backends.get("cupy", 0, precision)
    size = models.get(plan.model).recipe.resize
    with tempfile.TemporaryDirectory() as folder:
        packed = Path(folder) / "packed"
        prepare(f"shapes:{plan.packed}", packed, size=size, progress=False)
        loader = Loader(open_data(str(packed)).train, size, empty=b.host_empty)
        count = plan.steps * plan.rounds
        order = np.arange((count + _WARM) * batch) % len(loader.dataset)
        program, start = Whole(plan.model, b, batch), 0.0
        for i, one in enumerate(loader.batches(order, batch)):
            if i == _WARM:
                b.synchronize()
                start = time.perf_counter()
            program.fed(one)
        program.end()
        b.synchronize()
        from_packed = count * batch / (time.perf_counter() - start)
    resident = batch / timed(b, {"resident": program.resident}, plan)["resident"]
    return {
        "batch": batch,
        "images_per_second": from_packed,
        "resident_images_per_second": resident,
        "share": from_packed / resident,
        "bytes_an_image": size * size * 3,
        **_bus(b, plan),
    }


def _bus(b: Any, plan: Plan) -> dict[str, float]:
    """Bytes per second from pinned memory to the device, and into pinned memory by one thread."""
    from minialex.backends.cuda.device import library

    size = min(plan.copy_bytes, 1 << 28)
    there = b.stream.empty((size,), np.uint8)
    pinned = library().cuda.alloc_pinned_memory(size)
    host, source = np.frombuffer(pinned, np.uint8, size), np.ones(size, np.uint8)

    def upload() -> None:
        stream = library().cuda.get_current_stream()
        there.data.copy_from_host_async(host.ctypes.data, size, stream)

    def fill() -> None:
        host[...] = source

    seconds = timed(b, {"upload": upload, "fill": fill}, plan)
    return {
        "bus_bytes_per_second": size / seconds["upload"],
        "fill_bytes_per_second": size / seconds["fill"],
    }
