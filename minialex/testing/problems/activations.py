"""ReLU and tanh, and their gradients."""

from minialex.testing.problems.problem import Problem


def relu(p: Problem) -> tuple:
    return (p.b.relu(p.pair()[0]),)


def relu_gradient(p: Problem) -> tuple:
    return (p.b.relu_gradient(*p.pair()),)


def tanh(p: Problem) -> tuple:
    return (p.b.tanh(p.pair()[0]),)


def tanh_gradient(p: Problem) -> tuple:
    return (p.b.tanh_gradient(*p.pair()),)
