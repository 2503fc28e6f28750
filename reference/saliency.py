"""The deconvnet of Zeiler & Fergus (2014), in loops, and the gradients it resembles.

A network is a list of steps, each (kind, arguments...) as in `forward` below.
"""

from reference import activations, convolution, pooling, response_norm


def forward(steps, x):
    """The output of every step, x (N, H, W, C) first.

    ("convolution", weight, bias, stride, pads, groups), ("relu",), ("norm", n, k, α, β, groups) or
    ("max", window, stride, pads).
    """
    outputs = [x]
    for kind, *arguments in steps:
        before = outputs[-1]
        if kind == "convolution":
            outputs.append(convolution.forward(before, *arguments))
        elif kind == "relu":
            outputs.append(activations.relu(before))
        elif kind == "norm":
            outputs.append(response_norm.forward(before, *arguments)[0])
        else:
            outputs.append(pooling.max_forward(before, *arguments)[0])
    return outputs


def backward(steps, outputs, dy, rule):
    """dx by "gradient", "guided" or "deconvolution".

    They differ at a ReLU: the gradient passes where its input was positive, the deconvnet where
    what comes back is positive, the guided gradient where both are. The deconvnet knows no
    normalisation and passes it unchanged.
    """
    for (kind, *arguments), x, y in reversed(
        list(zip(steps, outputs[:-1], outputs[1:], strict=True))
    ):
        if kind == "convolution":
            weight, _, stride, pads, groups = arguments
            dy = convolution.input_gradient(dy, weight, x.shape, stride, pads, groups)
        elif kind == "relu":
            if rule != "gradient":
                dy = activations.relu(dy)
            if rule != "deconvolution":
                dy = activations.relu_gradient(x, dy)
        elif kind == "norm" and rule != "deconvolution":
            n, k, alpha, beta, groups = arguments
            scale = response_norm.forward(x, n, k, alpha, beta, groups)[1]
            dy = response_norm.gradient(dy, x, y, scale, n, alpha, beta, groups)
        elif kind == "max":
            argmax = pooling.max_forward(x, *arguments)[1]
            dy = pooling.max_gradient(dy, argmax, x.shape, *arguments)
    return dy
