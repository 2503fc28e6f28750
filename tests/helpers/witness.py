"""Any of our networks in PyTorch: an independent implementation, differentiated by autograd."""

import torch
import torch.nn.functional as F

from minialex.layers import (
    AveragePool,
    BatchNorm,
    ChannelScale,
    Conv2D,
    Dense,
    Dropout,
    MaxPool,
    ReLU,
    ResponseNorm,
    Sigmoid,
    SpatialResponseNorm,
    Tanh,
    output_size,
)

torch.set_num_threads(1)  # tests run in parallel: more threads would only wait for each other


def forward(network, params, images, masks=None):
    """Scores of images (N, H, W, C); `params` are our arrays as tensors, in our layouts.

    `masks` gives the kept units of each dropout layer by name in training; None is test time.
    """
    x = images.permute(0, 3, 1, 2)  # (N, C, H, W)
    for name, layer in network.layers:
        if isinstance(layer, BatchNorm):
            x = _batch_norm(layer, params[name], x, masks is not None)
        else:
            x = _layer(layer, params.get(name), x, None if masks is None else masks.get(name))
    return x


def _batch_norm(layer, params, x, training):
    """In training, it also updates the running statistics in `params`."""
    statistics = (params[f"running_{name}"].detach() for name in ("mean", "variance"))
    own = (params["weight"], params["bias"])
    return F.batch_norm(x, *statistics, *own, training, 1 - layer.keep, layer.epsilon)


def _layer(layer, params, x, mask):
    match layer:
        case Conv2D():
            weight = params["weight"].permute(3, 2, 0, 1)  # R S C K -> K C R S
            x = F.pad(x, _pads(x, layer, layer.kernel))
            return F.conv2d(x, weight, params["bias"], layer.stride, groups=layer.groups)
        case Dense():
            if x.ndim == 4:
                x = x.permute(0, 2, 3, 1)  # our units are in H W C order
            return x.reshape(len(x), -1) @ params["weight"] + params["bias"]
        case ReLU():
            return F.relu(x)
        case Tanh():
            return torch.tanh(x)
        case Sigmoid():
            return torch.sigmoid(x)
        case ChannelScale(factors=factors):
            return x * torch.tensor(factors, dtype=x.dtype)[:, None, None]
        case Dropout(keep=keep, inverted=inverted):
            if mask is None:
                return x if inverted else x * keep
            return x * mask / (keep if inverted else 1.0)
        case ResponseNorm(n=n, k=k, alpha=alpha, beta=beta, groups=groups):
            towers = x.chunk(groups, dim=1)
            return torch.cat([F.local_response_norm(t, n, alpha * n, beta, k) for t in towers], 1)
        case SpatialResponseNorm(n=n, k=k, alpha=alpha, beta=beta):
            sums = F.avg_pool2d(x * x, n, 1, n // 2, divisor_override=1)
            return x / (k + alpha * sums) ** beta
        case MaxPool(window=window, stride=stride):
            return F.max_pool2d(F.pad(x, _pads(x, layer, window), value=-torch.inf), window, stride)
        case AveragePool(window=window, stride=stride, pad=pad, count_pads=True):
            ceil = layer.rounding == "ceil"
            return F.avg_pool2d(x, window, stride, pad, ceil_mode=ceil, count_include_pad=True)
        case AveragePool(window=window, stride=stride):
            pads = _pads(x, layer, window)
            inside = F.pad(torch.ones_like(x[:1, :1]), pads)
            sums = F.avg_pool2d(F.pad(x, pads), window, stride)
            return sums / F.avg_pool2d(inside, window, stride)
    raise NotImplementedError(layer)


def _pads(x, layer, window):
    shape = (x.shape[2], x.shape[3], x.shape[1])
    rows, columns = output_size.pads(shape, window, layer.stride, layer.pad, layer.rounding)
    return (*columns, *rows)
