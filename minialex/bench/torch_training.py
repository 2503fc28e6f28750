"""Networks in PyTorch, trained from scratch on photographs for a given time.

Written as a PyTorch user would: images in memory, SGD with Nesterov momentum or Adam, a cosine
schedule after a warm-up, random crops at random scales, mirroring, and changes in brightness and
contrast.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minialex.data.dataset import Dataset
from minialex.data.loading.loader import Loader
from minialex.errors import InputError

_WARMUP = 0.05
BATCH = 32
_READ_AT_ONCE = 256
_MOST = 1 << 32  # bytes of decoded images
_LABEL_SMOOTHING = 0.1
_WEIGHT_DECAY = 5e-4


@dataclass(frozen=True)
class Images:
    """Decoded images with their labels."""

    pixels: np.ndarray  # uint8 (N, S, S, 3)
    labels: np.ndarray  # int64 (N,)


def decoded(dataset: Dataset, size: int) -> Images:
    """All readable images, in memory."""
    if len(dataset) * size * size * 3 > _MOST:
        raise InputError(f"{dataset.name} is too large to compare methods on: over 4 GB decoded")
    batches = list(
        Loader(dataset, size, cache_bytes=0).batches(np.arange(len(dataset)), _READ_AT_ONCE)
    )
    if not batches:
        raise InputError(f"{dataset.name!r} has no readable image")
    return Images(
        np.concatenate([batch.images for batch in batches]),
        np.concatenate([batch.labels for batch in batches]),
    )


def half_resnet18(classes: int, crop: int) -> Any:
    """ResNet-18 (He et al., 2016) with half as many channels, for images of crop x crop pixels.

    As usual for small images, its first convolution is 3 x 3, without the pooling after it, and
    has stride 1 below 48 pixels, else 2.
    """
    from torch import nn

    class Block(nn.Module):
        def __init__(self, inputs: int, channels: int, stride: int):
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(inputs, channels, 3, stride, 1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(inplace=True),
                nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
                nn.BatchNorm2d(channels),
            )
            self.skip: nn.Module = nn.Identity()
            if stride > 1 or inputs != channels:
                self.skip = nn.Sequential(
                    nn.Conv2d(inputs, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
                )
            self.relu = nn.ReLU(inplace=True)

        def forward(self, x):
            return self.relu(self.body(x) + self.skip(x))

    layers: list[nn.Module] = [
        nn.Conv2d(3, 32, 3, 1 if crop < 48 else 2, 1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(inplace=True),
    ]
    inputs = 32
    for channels in (32, 64, 128, 256):
        layers += [Block(inputs, channels, 1 if inputs == channels else 2)]
        layers += [Block(channels, channels, 1)]
        inputs = channels
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes)]
    return nn.Sequential(*layers)


def he_initialised(network: Any) -> Any:
    """`network` with He's initial weights (He et al., 2015) and biases of 0, as minialex draws."""
    from torch import nn

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return network


def accuracy_after(
    network: Any,
    train: Images,
    val: Images,
    *,
    minutes: float,
    crop: int,
    lr: float,
    seed: int,
    adam: bool = False,
    threads: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[float, int]:
    """Train `network` (N C H W -> scores) for a number of minutes by `clock`.

    -> accuracy of the centre crops of `val` in 0 … 1, and the number of updates.
    """
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(seed)
    network = network.to(memory_format=torch.channels_last)
    optimiser: torch.optim.Optimizer
    if adam:
        optimiser = torch.optim.Adam(network.parameters(), lr, weight_decay=_WEIGHT_DECAY)
    else:
        optimiser = torch.optim.SGD(
            network.parameters(), lr, momentum=0.9, nesterov=True, weight_decay=_WEIGHT_DECAY
        )
    pixels = torch.from_numpy(train.pixels).permute(0, 3, 1, 2).contiguous()
    labels = torch.from_numpy(train.labels)
    mean = train.pixels.reshape(-1, 3).mean(0)
    deviation = train.pixels.reshape(-1, 3).std(0)
    normal = _per_channel(mean), _per_channel(deviation)
    batch = min(BATCH, len(labels))
    start, updates = clock(), 0
    network.train()
    while True:
        for chosen in torch.randperm(len(labels), generator=generator).split(batch):
            spent = (clock() - start) / (60 * minutes)
            if spent >= 1:
                return _accuracy(network, val, crop, normal), updates
            if len(chosen) < 2:  # batch normalisation needs two
                continue
            for group in optimiser.param_groups:
                group["lr"] = lr * _share(spent)
            images = _augmented(pixels[chosen], crop, generator, normal)
            images = images.contiguous(memory_format=torch.channels_last)
            loss = torch.nn.functional.cross_entropy(
                network(images), labels[chosen], label_smoothing=_LABEL_SMOOTHING
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            updates += 1


def _per_channel(values: np.ndarray) -> Any:
    import torch

    return torch.tensor(values, dtype=torch.float32)[:, None, None]


def _share(spent: float) -> float:
    """The factor on the learning rate after this share of the time."""
    if spent < _WARMUP:
        return (0.05 + spent) / (0.05 + _WARMUP)
    return 0.5 * (1 + float(np.cos(np.pi * (spent - _WARMUP) / (1 - _WARMUP))))


def _augmented(pixels: Any, crop: int, generator: Any, normal: tuple[Any, Any]) -> Any:
    """Crops of 35 to 100% of the area, sides of 3:4 to 4:3, mirrored, with changed light."""
    import torch
    from torch.nn import functional

    count = len(pixels)

    def uniform(low: float, high: float) -> Any:
        return low + (high - low) * torch.rand(count, generator=generator)

    area, aspect = uniform(0.35, 1.0), torch.exp(uniform(-1, 1) * np.log(4 / 3))
    width, height = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
    left, top = uniform(-1, 1) * (1 - width), uniform(-1, 1) * (1 - height)
    mirror = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    moves = torch.zeros(count, 2, 3)
    moves[:, 0, 0], moves[:, 0, 2] = width * mirror, left
    moves[:, 1, 1], moves[:, 1, 2] = height, top
    grid = functional.affine_grid(moves, [count, 3, crop, crop], align_corners=False)
    cut = functional.grid_sample(pixels.float(), grid, padding_mode="border", align_corners=False)
    mean, deviation = normal
    light = uniform(0.7, 1.3)[:, None, None, None]
    contrast = uniform(0.7, 1.3)[:, None, None, None]
    return ((cut * light - mean) * contrast) / deviation


def _accuracy(network: Any, val: Images, crop: int, normal: tuple[Any, Any]) -> float:
    import torch

    network.eval()
    mean, deviation = normal
    edge = (val.pixels.shape[1] - crop) // 2
    centre = val.pixels[:, edge : edge + crop, edge : edge + crop]
    right = 0
    with torch.inference_mode():
        for first in range(0, len(centre), 256):
            images = torch.from_numpy(centre[first : first + 256]).permute(0, 3, 1, 2).float()
            scores = network((images - mean) / deviation)
            right += int((scores.argmax(1).numpy() == val.labels[first : first + 256]).sum())
    return right / len(centre)
