"""Convolution of 8-bit integers, as at the precision "int8": by plain loops, the same bits."""

import numpy as np

from reference.windows import output_size, taps

F = np.float32


def quantized_weight(weight):
    """Integers -127 … 127 in the shape of weight (R, S, C/G, K), and the scale of each of K."""
    integers, scales = np.zeros(weight.shape, int), np.zeros(weight.shape[3], F)
    for k in range(weight.shape[3]):
        largest = np.abs(weight[..., k]).max()
        scales[k] = largest / F(127)
        if largest > 0:
            integers[..., k] = np.rint(weight[..., k] / largest * F(127))
    return integers, scales


def quantized_image(x):
    """Integers 0 … 255 in the shape of x (H, W, C), their scale, and the integer of 0."""
    low, high = min(F(0), x.min()), max(F(0), x.max())
    scale = (high - low) / F(255)
    if not scale > 0:
        return np.zeros(x.shape, int), scale, 0
    zero = np.rint(-low / scale)
    return np.clip(np.rint(x * (F(1) / scale)) + zero, 0, 255).astype(int), scale, int(zero)


def forward(x, weight, bias, stride, pads, groups):
    """y (N, P, Q, K), float32, from x (N, H, W, C) and weight (R, S, C/G, K), float32."""
    own, scales = quantized_weight(weight)
    size, window = x.shape[1:3], weight.shape[:2]
    p_count, q_count = output_size(size, window, stride, pads)
    per_group, k_count = weight.shape[2:]
    y = np.zeros((len(x), p_count, q_count, k_count), F)
    for n, image in enumerate(x):
        numbers, scale, zero = quantized_image(image)
        for p, q, k in np.ndindex(y.shape[1:]):
            group, total = k // (k_count // groups), 0
            for r, s, h, w in taps(p, q, size, window, stride, pads):
                for c in range(per_group):
                    number = numbers[h, w, group * per_group + c] - zero
                    total += int(number) * int(own[r, s, c, k])
            y[n, p, q, k] = F(total) * (scale * scales[k]) + bias[k]
    return y
