"""ReLU, tanh and the sigmoid, and their gradients."""

from minialex.testing.problems.problem import Problem


def relu(p: Problem) -> tuple:
    return (p.b.relu(p.pair()[0]),)


def relu_gradient(p: Problem) -> tuple:
    return (p.b.relu_gradient(*p.pair()),)


def tanh(p: Problem) -> tuple:
    return (p.b.tanh(p.pair()[0]),)


def tanh_gradient(p: Problem) -> tuple:
    return (p.b.tanh_gradient(*p.pair()),)


def sigmoid(p: Problem) -> tuple:
    return (p.b.sigmoid(p.pair()[0]),)


def sigmoid_gradient(p: Problem) -> tuple:
    return (p.b.sigmoid_gradient(*p.pair()),)
