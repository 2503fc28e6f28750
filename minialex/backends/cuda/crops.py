"""From stored images to network input (paper, sections 2 and 4.1): crops.cu."""

import numpy as np

from minialex.backends.base import Array, Pair
from minialex.backends.cuda import kernels
from minialex.backends.cuda.execution import CudaExecution


class CudaCrops(CudaExecution):
    """Augmentation."""

    _constants: dict[int, tuple[np.ndarray, Array]]

    def crops(
        self,
        images: Array,
        top: np.ndarray,
        left: np.ndarray,
        flip: np.ndarray,
        crop: int,
        mean: np.ndarray,
        mean_top: int | None,
        mean_left: int | None,
        shift: np.ndarray | None,
        scale: float,
        dtype: str,
    ) -> Array:
        wide = kernels.accumulator(dtype)
        offsets = self.asarray(np.stack((top, left, flip), axis=1), "int32")
        mean = self._constant(mean, wide)
        shift = None if shift is None else self.asarray(shift, wide)
        corner = (-1, -1) if mean_top is None or mean_left is None else (mean_top, mean_left)
        return self.crops_at(images, offsets, crop, mean, corner, shift, scale, dtype)

    def crops_at(
        self,
        images: Array,
        offsets: Array,
        crop: int,
        mean: Array,
        mean_corner: Pair,
        shift: Array | None,
        scale: Array | float,
        dtype: str,
        channels: int | None = None,
        blocks: Pair | None = None,
    ) -> Array:
        """`crops` of arrays on the device: offsets (N, 3), mean, shift, scale (or a number).

        Any of the `channels` (None: as many as the images have) beyond the images' are zeros.
        """
        images = self._packed(images)
        n, _, size, c = images.shape
        wide = channels or c
        side, count = blocks or (1, crop)
        out = self._new((n, count, count, side * side * wide), dtype)
        scales = (1.0, scale) if isinstance(scale, self.xp.ndarray) else (scale, None)
        sizes = (n, size, c, wide, crop, side, count)
        arguments = (images, offsets, mean, shift, out, *sizes, *mean_corner, *scales)
        self._run("crops", "crops", arguments, n * (side * count) ** 2, storage=dtype)
        return out

    def _constant(self, host: np.ndarray, dtype: str) -> Array:
        """A host array that does not change, uploaded once."""
        kept = self._constants.get(id(host))
        if kept is None or kept[0] is not host or kept[1].dtype != dtype:
            if len(self._constants) > 7:
                self._constants.clear()
            kept = self._constants[id(host)] = (host, self.asarray(host, dtype))
        return kept[1]
