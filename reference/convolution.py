"""Convolution with groups, and its two gradients (paper, section 3.5)."""

import numpy as np

from reference.windows import output_size, taps


def _paths(x_shape, weight_shape, stride, pads, groups):
    """Every (n, p, q, k, r, s, c, h, w) that contributes a product; c counts within the group."""
    n_count, height, width, _ = x_shape
    r_count, s_count, per_group, k_count = weight_shape
    size, window = (height, width), (r_count, s_count)
    p_count, q_count = output_size(size, window, stride, pads)
    for n in range(n_count):
        for p in range(p_count):
            for q in range(q_count):
                for r, s, h, w in taps(p, q, size, window, stride, pads):
                    for k in range(k_count):
                        group = k // (k_count // groups)
                        for c in range(per_group):
                            yield n, p, q, k, r, s, c, h, w, group * per_group + c


def forward(x, weight, bias, stride, pads, groups):
    """y[n,p,q,k] = b[k] + Σ x[n,h,w,c] W[r,s,c,k] over the window and the group's channels."""
    p_count, q_count = output_size(x.shape[1:3], weight.shape[:2], stride, pads)
    y = np.zeros((x.shape[0], p_count, q_count, weight.shape[3]))
    for n, p, q, k, r, s, c, h, w, channel in _paths(x.shape, weight.shape, stride, pads, groups):
        y[n, p, q, k] += x[n, h, w, channel] * weight[r, s, c, k]
    if bias is not None:
        for k in range(weight.shape[3]):
            y[:, :, :, k] += bias[k]
    return y


def input_gradient(dy, weight, input_shape, stride, pads, groups):
    """dx[n,h,w,c] = Σ dy[n,p,q,k] W[r,s,c,k] over the outputs that use the pixel."""
    dx = np.zeros(input_shape)
    for n, p, q, k, r, s, c, h, w, channel in _paths(
        input_shape, weight.shape, stride, pads, groups
    ):
        dx[n, h, w, channel] += dy[n, p, q, k] * weight[r, s, c, k]
    return dx


def weight_gradient(x, dy, kernel, stride, pads, groups):
    """dW[r,s,c,k] = Σ x[n,h,w,c] dy[n,p,q,k] over images and output pixels."""
    dw = np.zeros((*kernel, x.shape[3] // groups, dy.shape[3]))
    for n, p, q, k, r, s, c, h, w, channel in _paths(x.shape, dw.shape, stride, pads, groups):
        dw[r, s, c, k] += x[n, h, w, channel] * dy[n, p, q, k]
    return dw
