"""From stored images to network input (paper, sections 2 and 4.1)."""

import numpy as np


def crops(images, top, left, flip, crop, mean, mean_top, mean_left, shift, scale):
    """Cut, subtract the mean there (or at mean_top, mean_left), mirror, shift, scale."""
    count, _, _, channels = images.shape
    x = np.zeros((count, crop, crop, channels))
    for n, h, w, c in np.ndindex(x.shape):
        column = crop - 1 - w if flip[n] else w
        m_top = top[n] if mean_top is None else mean_top
        m_left = left[n] if mean_left is None else mean_left
        pixel = float(images[n, top[n] + h, left[n] + column, c])
        pixel -= mean[m_top + h, m_left + column, c]
        x[n, h, w, c] = (pixel + (0.0 if shift is None else shift[n, c])) * scale
    return x
