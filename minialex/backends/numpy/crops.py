"""Crops over whole rows of pixels: twice as fast as pixel by pixel, with the same bits."""

import numpy as np

from minialex.backends.base import Array
from minialex.backends.generic.backend import GenericBackend


class NumpyCrops(GenericBackend):
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
        images = np.ascontiguousarray(images)
        n, height, width, c = images.shape
        rows = images.reshape(n, height, width * c)
        pixels = images.view(f"V{c}")[..., 0]  # (N, H, W): mirroring moves whole pixels
        mirrored = np.empty((crop, crop), pixels.dtype)
        mean = np.asarray(mean, dtype)
        straight = mean.reshape(height, width * c)
        backward = np.ascontiguousarray(mean[:, ::-1]).reshape(height, width * c)
        out = np.empty((len(top), crop, crop * c), dtype)
        for i, (t, l) in enumerate(zip(top, left, strict=True)):
            mt, ml = (t, l) if mean_top is None or mean_left is None else (mean_top, mean_left)
            if flip[i]:
                mirrored[...] = pixels[i, t : t + crop, l : l + crop][:, ::-1]
                window = mirrored.view(images.dtype).reshape(crop, crop * c)
                values, ml = backward, width - crop - ml
            else:
                window, values = rows[i, t : t + crop, l * c : (l + crop) * c], straight
            np.subtract(window, values[mt : mt + crop, ml * c : (ml + crop) * c], out=out[i])
            if shift is not None:
                out[i] += np.tile(np.asarray(shift[i], dtype), crop)
            if scale != 1.0:
                out[i] *= scale
        return out.reshape(-1, crop, crop, c)  # (N, crop, crop, C)
