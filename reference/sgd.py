"""The paper's update (section 5): momentum and weight decay, the rate inside the velocity."""

import numpy as np


def update(weight, velocity, gradient, rate, momentum, decay):
    """v <- momentum v - decay rate w - rate g; w <- w + v; nothing at a rate of 0."""
    if rate == 0:
        return weight, velocity
    w, v = np.zeros(weight.shape), np.zeros(weight.shape)
    for i in np.ndindex(weight.shape):
        v[i] = momentum * velocity[i] - decay * rate * weight[i] - rate * gradient[i]
        w[i] = weight[i] + v[i]
    return w, v
