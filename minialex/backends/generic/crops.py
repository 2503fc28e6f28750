"""From stored images to network input (paper, sections 2 and 4.1)."""

import numpy as np

from minialex.backends.base import Array, Pair
from minialex.backends.generic.arrays import GenericArrays


class GenericCrops(GenericArrays):
    """Augmentation."""

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
        """Resized images to network input: crop, subtract the mean, mirror, shift colour, scale.

        images uint8 (N, S, S, C); top, left, flip host arrays (N,); mean (S, S, C) on the host,
        cropped like the image, or at (mean_top, mean_left) if these are given; shift (N, C) or
        None, in grey levels -> (N, crop, crop, C) of `dtype`.
        """
        kind = getattr(self.xp, dtype)
        mean = self.asarray(mean, dtype)
        shift = None if shift is None else self.asarray(shift, dtype)
        out = self.xp.empty((len(top), crop, crop, images.shape[3]), dtype=kind, device=self.device)
        for i, (t, l, mirrored) in enumerate(zip(top, left, flip, strict=True)):
            window = images[i, int(t) : int(t) + crop, int(l) : int(l) + crop, :]
            mt, ml = (
                (int(t), int(l)) if mean_top is None or mean_left is None else (mean_top, mean_left)
            )
            x = self.xp.astype(window, kind) - mean[mt : mt + crop, ml : ml + crop, :]
            if mirrored:
                x = self.xp.flip(x, axis=1)
            if shift is not None:
                x = x + shift[i, :]
            out[i, ...] = x if scale == 1.0 else x * scale
        return out

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
        """`crops`, with the arguments that compiled steps use."""
        top, left, flip = self.to_numpy(offsets).T
        at_crop = mean_corner == (-1, -1)
        down, across = (None, None) if at_crop else mean_corner
        mean = self.to_numpy(mean)
        shift = None if shift is None else self.to_numpy(shift)
        if not isinstance(scale, float):
            scale = float(self.to_numpy(scale)[0])
        draws = (images, top, left, flip > 0)
        x = self.crops(*draws, crop, mean, down, across, shift, scale, dtype)
        x = self._extended(x, 3, channels or x.shape[3])
        if blocks is None:
            return x
        side, count = blocks
        n, _, _, c = x.shape
        for axis in (1, 2):
            x = self._extended(x, axis, side * count)
        x = self.xp.reshape(x, (n, count, side, count, side, c))
        x = self.xp.permute_dims(x, (0, 1, 3, 2, 4, 5))  # n count count side side c
        return self.xp.reshape(x, (n, count, count, side * side * c))

    def _extended(self, x: Array, axis: int, extent: int) -> Array:
        """x with zeros at the end of an axis, or cut there."""
        missing = extent - x.shape[axis]
        if missing <= 0:
            return x[(*(slice(None),) * axis, slice(0, extent), ...)]
        shape = (*x.shape[:axis], missing, *x.shape[axis + 1 :])
        return self.concat((x, self.xp.zeros(shape, dtype=x.dtype, device=self.device)), axis)

    def input_blocks(
        self, size: int, channels: int, outputs: int, groups: int, window: Pair, dtype: str
    ) -> Pair | None:
        """None: images as they are."""
        return None

    def channels_to_copy(self, channels: int, outputs: int, groups: int, dtype: str) -> int:
        """The same number: no padding."""
        return channels
