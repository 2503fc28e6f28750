"""A network that trains in milliseconds, and photographs, to test the code around training."""

from dataclasses import replace

import numpy as np
from PIL import Image

from minialex.layers import BatchNorm, Conv2D, Dense, Dropout, MaxPool, ReLU, ResponseNorm
from minialex.models import registry
from minialex.models.recipe import Recipe
from minialex.network import Network


def tiny(classes: int) -> Network:
    """One layer of each kind with parameters or random numbers, for 12 x 12 pixels."""
    return Network(
        (
            ("conv1", Conv2D(4, kernel=5, stride=2, weight_std=0.05)),
            ("relu1", ReLU()),
            ("norm1", ResponseNorm()),
            ("pool1", MaxPool(3, 2)),
            ("conv2", Conv2D(4, kernel=3, pad=1, groups=2, weight_std=0.1, bias=0.1)),
            ("relu2", ReLU()),
            ("fc6", Dense(8, weight_std=0.1, bias=0.1)),
            ("relu6", ReLU()),
            ("drop6", Dropout()),
            ("fc8", Dense(classes, weight_std=0.1)),
        ),
        (12, 12, 3),
    )


def tiny_bn(classes: int) -> Network:
    """The same with batch normalisation after every convolution."""
    layers = []
    for name, layer in tiny(classes).layers:
        if not isinstance(layer, ResponseNorm):
            layers.append((name, layer))
        if isinstance(layer, Conv2D):
            layers.append((name.replace("conv", "bn"), BatchNorm()))
    return Network(tuple(layers), (12, 12, 3))


def register_tiny(monkeypatch) -> None:
    """Register it as the model "tiny" during the test; it is also the network of the stored run."""
    variant = registry.Variant(tiny, Recipe(resize=16, crop=12, batch_size=16), "a stored run's")
    monkeypatch.setitem(registry._VARIANTS, "tiny", variant)
    monkeypatch.setitem(registry._VARIANTS, "tiny-bn", replace(variant, build=tiny_bn))


def photographs(folder, each=20, classes=("cat", "dog"), seed=0, size=36):
    """Class folders of random images, whose compressed sizes differ little."""
    rng = np.random.default_rng(seed)
    for name in classes:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(each):
            pixels = rng.integers(0, 255, (size, size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i:02}.png")
    return folder
