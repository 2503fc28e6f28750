"""The preprocessing that a Caffe network expects: image size, mean and channel order."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minialex.errors import InputError
from minialex.exchange.caffe.layers import CaffeLayer, data_layers
from minialex.exchange.caffe.message import Message
from minialex.exchange.caffe.wire import blob

LARGEST = 4096  # pixels on a side
_USUAL = (227, 224, 32, 28, 64, 96, 128, 256)
# means of ILSVRC's training images, RGB: of Caffe's mean image, and as used by VGG's authors
_ILSVRC, _VGG = (122.68, 116.67, 104.01), (123.68, 116.779, 103.939)


@dataclass(frozen=True)
class Images:
    """The file's data: the input's (H, W, C), or None, and the fields of Caffe's transformer."""

    shape: tuple[int, int, int] | None
    crop: int | None
    mean_file: str
    mean_values: tuple[float, ...]
    scale: float
    source: str

    @property
    def says_nothing(self) -> bool:
        """Whether nothing is said of what was subtracted from the images, and of their scale."""
        return not self.mean_file and not self.mean_values and self.scale == 1


def described(net: Message, layers: Sequence[CaffeLayer]) -> Images:
    """What the data layers, or the `input` of a network without any, say about the images."""
    shapes = [one.integers("dim", most=1 << 30) for one in net.subs("input_shape")]
    shapes += [net.integers("input_dim", most=1 << 30)[:4]]
    transforms, source = [], ""
    for layer in data_layers(layers):
        given = layer.fields.sub("input_param").subs("shape")
        shapes += [one.integers("dim", most=1 << 30) for one in given]
        data = layer.fields.sub("data_param")
        transforms += [layer.fields.sub("transform_param"), data]
        source = source or data.text("source")
    shape = next(((s[2], s[3], s[1]) for s in shapes if len(s) == 4), None)
    if shape is not None and (shape[0] != shape[1] or max(shape) > LARGEST):
        raise ValueError(f"its images are {shape[0]} x {shape[1]} x {shape[2]}, not small squares")
    mean_file = next((t.text("mean_file") for t in transforms if t.text("mean_file")), "")
    values = next((t.numbers("mean_value") for t in transforms if t.get("mean_value")), [])
    crop = next(
        (t.integer("crop_size", 0, most=LARGEST) for t in transforms if "crop_size" in t), 0
    )
    scale = next((t.number("scale", 1.0) for t in transforms if "scale" in t), 1.0)
    return Images(shape, crop or None, mean_file, tuple(values), scale, source)


def sizes(images: Images, mean: np.ndarray | None) -> tuple[int, ...]:
    """Possible sides of the input, most likely first."""
    if images.crop:
        return (images.crop,)
    if images.shape is not None:
        return (images.shape[0],)
    if mean is not None:
        return (mean.shape[0],)
    return (32,) if "cifar" in images.source.lower() else _USUAL


def mean_image(path: Path) -> np.ndarray:
    """A mean.binaryproto as Caffe writes it: float32 (H, W, C), colours in the file's order."""
    try:
        array = blob(memoryview(path.read_bytes()))
        while array.ndim > 3 and len(array) == 1:
            array = array[0]
        if array.ndim != 3 or array.shape[1] != array.shape[2] or not 0 < array.shape[1] <= LARGEST:
            raise ValueError(f"it has an array of {array.shape}")
        if not np.isfinite(array).all():
            raise ValueError("it has numbers that are not finite")
    except ValueError as error:
        raise InputError(f"{path} is not a Caffe mean image ({error})") from None
    return np.ascontiguousarray(array.transpose(1, 2, 0))


def is_rgb(images: Images, name: str) -> bool:
    """Whether the network takes RGB: Caffe's CIFAR-10 converter keeps it, all others use BGR."""
    return "cifar" in f"{name} {images.source}".lower()


def usual_mean(size: int, name: str) -> tuple[float, float, float] | None:
    """The mean colour (RGB) of published networks of this size; None if there are none."""
    if size not in (224, 227):
        return None
    return _VGG if "vgg" in name.lower() else _ILSVRC
