"""The paper's update (section 5), for many arrays in one launch: sgd.cu."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from minialex.backends.base import Array
from minialex.backends.cuda.execution import CudaExecution

_ARRAYS = 32  # parameter arrays one SGD launch takes; ARRAYS in sgd.cu


class CudaSGD(CudaExecution):
    """Updates."""

    def sgd_update(
        self,
        weight: Array,
        velocity: Array,
        gradient: Array,
        rate: float,
        momentum: float,
        decay: float,
    ) -> tuple[Array, Array]:
        return self.sgd_updates([(weight, velocity, gradient, rate, decay)], momentum)[0]

    def sgd_updates(self, updates: Sequence[tuple], momentum: float) -> list[tuple[Array, Array]]:
        arrays = [(*map(self._packed, update[:3]), None) for update in updates]
        self._sgd(arrays, [u[3:] for u in updates], momentum)
        return [(w, v) for w, v, *_ in arrays]

    def captured_updates(
        self, arrays: Any, decays: Sequence[float], momentum: float, rates: Any, guard: Any
    ) -> None:
        """`sgd_updates` for a captured step: the rates are numbers on the device.

        Each of `arrays` is (weight, velocity, gradient, copy); a copy (or None) gets the new weight
        as stored at this precision. `guard` is a `graph.Guard`.
        """
        reads = (guard.stopped, guard.factor)
        self._sgd(arrays, [(0.0, decay) for decay in decays], momentum, rates, *reads)

    def _sgd(
        self,
        arrays: Any,
        rates_and_decays: Sequence[tuple],
        momentum: float,
        rates: Any = None,
        stopped: Any = None,
        factor: Any = None,
    ) -> None:
        for start in range(0, len(arrays), _ARRAYS):
            chosen = range(start, min(start + _ARRAYS, len(arrays)))
            kind = arrays[start][0].dtype
            storage, table = self.compute_dtype(kind.name), np.zeros(1, _updates_dtype(kind))
            for slot, j in enumerate(chosen):
                w, v, g, copy = arrays[j]
                if not w.dtype == v.dtype == g.dtype == kind:
                    raise TypeError("parameters, velocities and gradients must share one type")
                if copy is not None and copy.dtype != storage:
                    raise TypeError(f"a copy is of {copy.dtype}, expected {storage}")
                pointers = (
                    w.data.ptr,
                    v.data.ptr,
                    g.data.ptr,
                    0 if copy is None else copy.data.ptr,
                )
                table["of"][0, slot] = (*pointers, w.size, *rates_and_decays[j])
            largest = max(arrays[j][0].size for j in chosen)
            own = None if rates is None else rates[start : chosen.stop]
            arguments = (table, len(chosen), momentum, own, stopped, 1.0, factor)
            self._run("sgd", "sgd", arguments, largest, storage=storage)


def _updates_dtype(kind: Any) -> np.dtype:
    """The structure `Updates` of sgd.cu for one type of parameter."""
    names = ["weight", "velocity", "gradient", "copy", "size", "rate", "decay"]
    update = np.dtype(
        list(zip(names, [np.uint64] * 4 + [np.int64, kind, kind], strict=True)), align=True
    )
    return np.dtype([("of", update, (_ARRAYS,))], align=True)
