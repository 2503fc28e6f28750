"""Adam (Kingma & Ba, 2015), with the weight decay in the gradient."""

import numpy as np


def update(weight, mean, square, gradient, rate, decay, step, beta1, beta2, epsilon):
    """The new weight, mean and square, after `step` earlier updates."""
    w, m, s = (np.zeros(weight.shape) for _ in range(3))
    t = step + 1
    for i in np.ndindex(weight.shape):
        g = gradient[i] + decay * weight[i]
        m[i] = beta1 * mean[i] + (1 - beta1) * g
        s[i] = beta2 * square[i] + (1 - beta2) * g * g
        unbiased, size = m[i] / (1 - beta1**t), s[i] / (1 - beta2**t)
        w[i] = weight[i] - rate * unbiased / (np.sqrt(size) + epsilon)
    return w, m, s
