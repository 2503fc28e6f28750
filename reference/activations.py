"""ReLU and tanh (paper, section 3.1), and the sigmoid."""

import math

import numpy as np


def relu(x):
    """max(0, x)"""
    y = np.zeros(x.shape)
    for i in np.ndindex(x.shape):
        y[i] = max(0.0, x[i])
    return y


def relu_gradient(x, dy):
    """dy where x is positive; 0 at 0."""
    dx = np.zeros(x.shape)
    for i in np.ndindex(x.shape):
        dx[i] = dy[i] if x[i] > 0 else 0.0
    return dx


def tanh(x):
    """tanh(x)"""
    y = np.zeros(x.shape)
    for i in np.ndindex(x.shape):
        y[i] = math.tanh(x[i])
    return y


def tanh_gradient(x, dy):
    """dy (1 - tanh² x)"""
    dx = np.zeros(x.shape)
    for i in np.ndindex(x.shape):
        dx[i] = dy[i] * (1 - math.tanh(x[i]) ** 2)
    return dx


def sigmoid(x):
    """1 / (1 + exp(-x))"""
    y = np.zeros(x.shape)
    for i in np.ndindex(x.shape):
        y[i] = 1 / (1 + math.exp(-x[i]))
    return y


def sigmoid_gradient(x, dy):
    """dy s (1 - s), where s is the sigmoid of x"""
    s, dx = sigmoid(x), np.zeros(x.shape)
    for i in np.ndindex(x.shape):
        dx[i] = dy[i] * s[i] * (1 - s[i])
    return dx
