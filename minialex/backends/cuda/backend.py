"""CUDA through CuPy: every op is a kernel of `cuda/` or a cuBLAS product.

Requires CuPy and a device. Nothing passes through the host but what the caller hands over or asks
for. Activations are stored at the backend's precision; parameters, their gradients and all sums
are float32 (or float64, for a network of that type).
"""

from math import prod

import numpy as np

from minialex import rng
from minialex.backends.base import Array
from minialex.backends.cuda import kernels
from minialex.backends.cuda.convolutions import Convolutions
from minialex.backends.cuda.maps import Maps
from minialex.backends.generic.dropout import threshold

_ARRAYS = 32  # parameter arrays one SGD launch takes; ARRAYS in sgd.cu


class CupyBackend(Convolutions, Maps):
    """Arrays on one CUDA device, `device` by its number (None: the first)."""

    # ------------------------------------------------------------------------------ losses

    def softmax_cross_entropy(self, scores, labels, count=None, scale=1.0):
        return self._loss("softmax_cross_entropy", scores, labels, (), count, scale)

    def hinge(self, scores, labels, margin, count=None, scale=1.0):
        return self._loss("hinge", scores, labels, (margin,), count, scale)

    def _loss(self, kernel, scores, labels, more, count, scale) -> tuple[Array, Array]:
        scores = self._packed(scores)
        n, k = scores.shape
        factor = 1 / (count or n)
        dscores = self._new(scores.shape, scores)
        losses = self._new((n,), kernels.accumulator(scores.dtype.name))
        total = self._new((), losses)
        arguments = (scores, labels, dscores, losses, n, k, *more, factor * scale)
        self._run("loss", kernel, arguments, grid=(n,), block=(128,))
        arguments = (losses, total, n, factor)
        self._run("loss", "row_total", arguments, grid=(1,), block=(128,), storage=scores.dtype)
        return total, dscores

    def keep_loss(self, loss, step, ring) -> None:
        """For a captured step: the loss of `step` to its place in the ring (see `graph.Ring`)."""
        arguments = (loss, step, ring.losses, ring.size, ring.halted)
        self._run("loss", "keep_loss", arguments, grid=(1,), block=(32,), storage=loss.dtype)

    def softmax(self, logits):
        logits = self._packed(logits)
        p = self._new(logits.shape, logits)
        n, k = logits.shape
        self._run("loss", "softmax", (logits, p, n, k), grid=(n,), block=(128,))
        return p

    # ------------------------------------------------------------------------------ the rest

    def dropout_mask(
        self, shape, keep, seed, stream, step, first_image=0, first_channel=0, channels=None
    ):
        mask = self._new(shape, "bool")
        draw = (keep, seed, stream, step, first_image, first_channel, channels)
        self._draw("dropout_mask", (mask,), draw)
        return mask

    def dropout(
        self, x, keep, factor, seed, stream, step, first_image=0, first_channel=0, channels=None
    ):
        saved = (keep, seed, stream, step, first_image, first_channel, channels), factor
        return self.dropout_gradient(x, saved), saved

    def dropout_gradient(self, dy, saved):
        dy, (draw, factor) = self._packed(dy), saved
        dx = self._new(dy.shape, dy)
        self._draw("dropout", (dy, dx), draw, (factor,))
        return dx

    def dense_relu_dropout(
        self,
        x,
        weight,
        bias,
        keep,
        factor,
        seed,
        stream,
        step,
        first_image=0,
        first_channel=0,
        channels=None,
    ):
        y = self.dense(x, weight, None)
        draw = (keep, seed, stream, step, first_image, first_channel, channels)
        self._draw("bias_relu_dropout", (y,), draw, (factor, bias))
        return y

    def relu_dropout_gradient(self, dy, y, factor):
        dy, y = self._packed(dy), self._packed(y)
        dx = self._new(dy.shape, dy)
        self._run("dropout", "relu_dropout_gradient", (dy, y, dx, dy.size, factor), dy.size)
        return dx

    def _draw(self, kernel, arrays, draw, more=()) -> None:
        keep, seed, stream, step, first_image, first_channel, channels = draw
        n, *rows, c = arrays[0].shape
        units = prod(rows) * c
        now = (0, step) if isinstance(step, self.xp.ndarray) else (step, None)
        place = (n, units, c, first_channel, channels or c, first_image, *now)
        key = (rng.Stream.DROPOUT + stream, seed & 0xFFFFFFFF, seed >> 32)
        arguments = (*arrays, *place, *key, threshold(keep), *more)
        self._run("dropout", kernel, arguments, n * -(-units // 4))

    def crops(self, images, top, left, flip, crop, mean, mean_top, mean_left, shift, scale, dtype):
        wide = kernels.accumulator(dtype)
        offsets = self.asarray(np.stack((top, left, flip), axis=1), "int32")
        mean = self._constant(mean, wide)
        shift = None if shift is None else self.asarray(shift, wide)
        corner = (-1, -1) if mean_top is None else (mean_top, mean_left)
        return self.crops_at(images, offsets, crop, mean, corner, shift, scale, dtype)

    def crops_at(
        self, images, offsets, crop, mean, mean_corner, shift, scale, dtype, channels=None
    ) -> Array:
        """`crops` of what lies on the device: offsets (N, 3), mean, shift, scale (or a number).

        Of `channels` (None: as many as the images have) the last are zeros.
        """
        images = self._packed(images)
        n, _, size, c = images.shape
        out = self._new((n, crop, crop, channels or c), dtype)
        scales = (1.0, scale) if isinstance(scale, self.xp.ndarray) else (scale, None)
        sizes = (n, size, c, channels or c, crop)
        arguments = (images, offsets, mean, shift, out, *sizes, *mean_corner, *scales)
        self._run("augment", "crops", arguments, out.size, storage=dtype)
        return out

    def sgd_update(self, weight, velocity, gradient, rate, momentum, decay):
        return self.sgd_updates([(weight, velocity, gradient, rate, decay)], momentum)[0]

    def sgd_updates(self, updates, momentum):
        arrays = [(*map(self._packed, update[:3]), None) for update in updates]
        self._sgd(arrays, [u[3:] for u in updates], momentum, 1.0)
        return [(w, v) for w, v, *_ in arrays]

    def captured_updates(self, arrays, decays, momentum, rates, halted) -> None:
        """`sgd_updates` for a captured step: the rates are numbers on the device.

        Each of `arrays` is (weight, velocity, gradient, copy); a copy gets the new weight as it is
        stored at this precision, None is none. Nothing changes where `halted` is not zero.
        """
        self._sgd(arrays, [(0.0, decay) for decay in decays], momentum, 1.0, rates, halted)

    def _sgd(self, arrays, rates_and_decays, momentum, scale, rates=None, halted=None) -> None:
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
            arguments = (table, len(chosen), momentum, scale, own, halted)
            self._run("sgd", "sgd", arguments, largest, storage=storage)


def _updates_dtype(kind) -> np.dtype:
    """The structure `Updates` of sgd.cu for parameters of a type."""
    names = ["weight", "velocity", "gradient", "copy", "size", "rate", "decay"]
    update = np.dtype(
        list(zip(names, [np.uint64] * 4 + [np.int64, kind, kind], strict=True)), align=True
    )
    return np.dtype([("of", update, (_ARRAYS,))], align=True)
