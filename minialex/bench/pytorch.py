"""The same network in PyTorch, as a user would write it, to compare speeds."""

from typing import Any

from minialex.bench.program import Peer, Program
from minialex.bench.subject import Subject
from minialex.errors import InputError
from minialex.layers import (
    AveragePool,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    MaxPool,
    ReLU,
    ResponseNorm,
    Sigmoid,
    Tanh,
)
from minialex.network import Network

FORMATS = ("default", "channels_last")


def network_in_torch(network: Network):
    """The network as `torch.nn` modules (N C H W), with PyTorch's own initial weights.

    LRN runs over all channels, not by tower, and pooling at the edges is PyTorch's: the number of
    operations is equal to within a few parts in a thousand.
    """
    import torch

    made: list[torch.nn.Module] = []
    shapes = network.shapes()
    for (_, layer), shape in zip(network.layers, shapes, strict=False):
        match layer:
            case Conv2D():
                geometry = (layer.kernel, layer.stride, layer.pad, 1, layer.groups)
                made.append(torch.nn.Conv2d(shape[2], layer.channels, *geometry))
            case Dense():
                if len(shape) == 3:
                    made.append(torch.nn.Flatten())
                inputs = shape[0] if len(shape) == 1 else shape[0] * shape[1] * shape[2]
                made.append(torch.nn.Linear(inputs, layer.units))
            case ReLU():
                made.append(torch.nn.ReLU(inplace=True))
            case Tanh():
                made.append(torch.nn.Tanh())
            case Sigmoid():
                made.append(torch.nn.Sigmoid())
            case Dropout():
                made.append(torch.nn.Dropout(1 - layer.keep))
            case ResponseNorm(n=n, k=k, alpha=alpha, beta=beta):
                made.append(torch.nn.LocalResponseNorm(n, alpha * n, beta, k))
            case BatchNorm():
                norm = torch.nn.BatchNorm2d if len(shape) == 3 else torch.nn.BatchNorm1d
                made.append(norm(shape[-1], layer.epsilon, 1 - layer.keep))
            case MaxPool() | AveragePool():
                pool = torch.nn.MaxPool2d if isinstance(layer, MaxPool) else torch.nn.AvgPool2d
                ceil = layer.rounding == "ceil"
                made.append(pool(layer.window, layer.stride, layer.pad, ceil_mode=ceil))
            case _:
                kind = type(layer).__name__
                raise InputError(f"PyTorch has no layer like {kind}: compare another network")
    return torch.nn.Sequential(*made)


def require() -> None:
    """Raise InputError if PyTorch is not installed."""
    PROGRAM.require()


def peers(subject: Subject, batch: int, threads: int | None) -> list[Peer]:
    """The network in both memory formats, float32 on the CPU with `threads` threads."""
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    return [_peer(torch, subject, batch, name) for name in FORMATS]


def version() -> str:
    """The version of PyTorch, which must be installed."""
    import torch

    return torch.__version__


def _peer(torch: Any, subject: Subject, batch: int, name: str) -> Peer:
    layout = torch.channels_last if name == "channels_last" else torch.contiguous_format
    model = subject.model
    network = network_in_torch(model.network).to(memory_format=layout)
    images = (
        torch.from_numpy(subject.images(batch)).permute(0, 3, 1, 2).contiguous(memory_format=layout)
    )
    labels = torch.arange(batch) % model.classes
    recipe = model.recipe
    optimiser = torch.optim.SGD(
        network.parameters(), recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay
    )

    def train() -> None:
        network.train()
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(images), labels)
        loss.backward()
        optimiser.step()
        loss.item()

    def infer() -> None:
        network.eval()
        with torch.inference_mode():
            network(images)

    return Peer(name, train, infer)


PROGRAM = Program("torch", "PyTorch", ("torch",), True, peers)
