"""The losses over scores (N, K) and labels: a mean over images, and its gradient."""

import math

import numpy as np


def softmax_cross_entropy(scores, labels):
    """-log(exp(s_y) / Σ exp(s_j)) (paper, section 3.5)."""
    count, classes = scores.shape
    loss, gradient = 0.0, np.zeros(scores.shape)
    for n in range(count):
        largest = max(scores[n])
        powers = [math.exp(score - largest) for score in scores[n]]
        total = sum(powers)
        loss += (math.log(total) - (scores[n, labels[n]] - largest)) / count
        for j in range(classes):
            gradient[n, j] = (powers[j] / total - (j == labels[n])) / count
    return loss, gradient


def soft_cross_entropy(scores, targets):
    """-Σ t_j log(exp(s_j) / Σ exp(s_k)): targets (N, K) of any sum instead of labels."""
    count, classes = scores.shape
    loss, gradient = 0.0, np.zeros(scores.shape)
    for n in range(count):
        largest = max(scores[n])
        powers = [math.exp(score - largest) for score in scores[n]]
        total = sum(powers)
        weight = sum(targets[n])
        for j in range(classes):
            loss -= targets[n, j] * (scores[n, j] - largest - math.log(total)) / count
            gradient[n, j] = (powers[j] / total * weight - targets[n, j]) / count
    return loss, gradient


def hinge(scores, labels, margin):
    """Σ over j ≠ y of max(0, s_j - s_y + Δ): the multiclass support vector machine."""
    count, classes = scores.shape
    loss, gradient = 0.0, np.zeros(scores.shape)
    for n in range(count):
        for j in range(classes):
            over = scores[n, j] - scores[n, labels[n]] + margin
            if j != labels[n] and over > 0:
                loss += over / count
                gradient[n, j] += 1 / count
                gradient[n, labels[n]] -= 1 / count
    return loss, gradient
