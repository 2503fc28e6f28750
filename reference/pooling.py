"""Maximum and average pooling, and their gradients (paper, section 3.4)."""

import numpy as np

from reference.windows import output_size, taps


def max_forward(x, window, stride, pads):
    """y and the tap r·S + s of each window's first maximum in scan order."""
    n_count, height, width, channels = x.shape
    p_count, q_count = output_size((height, width), window, stride, pads)
    y = np.zeros((n_count, p_count, q_count, channels))
    argmax = np.zeros(y.shape, int)
    for n, p, q, c in np.ndindex(y.shape):
        best = None
        for r, s, h, w in taps(p, q, (height, width), window, stride, pads):
            if best is None or x[n, h, w, c] > best:
                best = x[n, h, w, c]
                argmax[n, p, q, c] = r * window[1] + s
        y[n, p, q, c] = best
    return y, argmax


def max_gradient(dy, argmax, input_shape, window, stride, pads):
    """Each dy goes to the pixel that was the maximum."""
    dx = np.zeros(input_shape)
    for n, p, q, c in np.ndindex(dy.shape):
        for r, s, h, w in taps(p, q, input_shape[1:3], window, stride, pads):
            if argmax[n, p, q, c] == r * window[1] + s:
                dx[n, h, w, c] += dy[n, p, q, c]
    return dx


NO_PADS = ((0, 0), (0, 0))


def area(p, q, size, window, stride, pads, counted):
    """The number of pixels in the window that lie in the image or in the padding `counted`."""
    (top, bottom), (left, right) = counted
    wider = (size[0] + top + bottom, size[1] + left + right)
    moved = ((pads[0][0] - top, 0), (pads[1][0] - left, 0))
    return len(list(taps(p, q, wider, window, stride, moved)))


def average_forward(x, window, stride, pads, counted=NO_PADS):
    """The mean of the pixels in the window, excluding those outside the image."""
    n_count, height, width, channels = x.shape
    p_count, q_count = output_size((height, width), window, stride, pads)
    y = np.zeros((n_count, p_count, q_count, channels))
    for n, p, q, c in np.ndindex(y.shape):
        seen = [x[n, h, w, c] for _, _, h, w in taps(p, q, (height, width), window, stride, pads)]
        y[n, p, q, c] = sum(seen) / area(p, q, (height, width), window, stride, pads, counted)
    return y


def average_gradient(dy, input_shape, window, stride, pads, counted=NO_PADS):
    """Each dy is spread evenly over the pixels in its window."""
    dx = np.zeros(input_shape)
    for n, p, q, c in np.ndindex(dy.shape):
        share = dy[n, p, q, c] / area(p, q, input_shape[1:3], window, stride, pads, counted)
        for _, _, h, w in taps(p, q, input_shape[1:3], window, stride, pads):
            dx[n, h, w, c] += share
    return dx
