"""A model's hyper-parameters for images and training, each with the section of the paper.

The defaults are the paper as printed; a model's recipe gives only what differs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from minialex.errors import InputError
from minialex.utils.image_size import Bilinear, Squashed

MeanWindow = Literal["crop", "centre", "colour"]
WarmupShape = Literal["linear", "quadratic"]


@dataclass(frozen=True)
class Recipe:
    """Preprocessing, augmentation and training hyper-parameters of one model."""

    # Images (sections 2 and 4.1)
    resize: int = 256  # the shorter side; the central square is kept
    squash: bool = False  # both sides are resized instead, as Caffe's tools do
    bilinear: bool = False  # resized by another filter, as torchvision does
    crop: int = 227  # 224 in the paper's text; layers/output_size.py explains the difference
    mean_window: MeanWindow = "crop"  # mean image cut as the crop, cut centrally, or its colour
    random_crops: bool = True  # section 4.1, first form of augmentation
    crop_chunk: int = 1  # consecutive images that share one crop position and mirroring
    mirror: bool = True
    colour_noise: float = 0.1  # standard deviation of the PCA factors (section 4.1)
    colour_divide: bool = False  # divide training images by 1 + colour_noise

    # Augmentation beyond the paper's: all off by default
    crop_scale: float = 1.0  # smallest share of the image's area in a crop; 1: crops of fixed size
    aspect: float = 1.0  # crops are stretched in width or height by up to this factor
    rotation: float = 0.0  # at most so many degrees either way
    vertical_flip: bool = False  # half of the images upside down
    brightness: float = 0.0  # values times 1 - brightness to 1 + brightness
    contrast: float = 0.0  # the same factor for differences from the training set's mean colour
    saturation: float = 0.0  # the same factor for differences from grey
    erasing: float = 0.0  # probability that a rectangle is covered with the mean colour
    augment: str = ""  # a user's function, applied first (data/own_augmentation.py)
    mixup: float = 0.0  # alpha of MixUp's Beta(alpha, alpha)

    # Targets other than plain labels: also off
    label_smoothing: float = 0.0  # probability that is spread evenly over all classes
    class_weights: bool = False  # images of rare classes count more

    # Learning (section 5)
    reshuffle: bool = True  # a new order of the images in each epoch
    optimizer: str = "sgd"
    dropout: bool = True  # whether the network keeps its dropout layers (section 4.2)
    batch_size: int = 128
    momentum: float = 0.9
    weight_decay: float = 0.0005
    lr: float = 0.01
    schedule: str = "plateau"  # divided by ten when the validation error stops improving
    patience: int = 5  # epochs without improvement before that; the paper adjusted by hand
    epochs: int = 90
    average_epochs: int = 0  # last epochs whose weights are averaged; the paper has no such thing
    warmup: float = 0.0  # epochs in which the learning rate rises to the schedule's
    warmup_shape: WarmupShape = "linear"  # or with the square, as in runs with large batches
    warmup_steps: int = 0  # minimum length of the warm-up, in updates
    bias_rate: float = 1.0  # learning rate of biases, relative to weights
    bias_decay: float = 1.0  # decay of biases, relative to weights
    layer_rates: Mapping[str, float] = field(default_factory=dict)  # by layer: times the rate
    layer_decays: Mapping[str, float] = field(default_factory=dict)  # or a "layer.parameter"

    def __post_init__(self) -> None:
        if not self.random_crops and (self.crop_scale < 1 or self.aspect > 1):
            raise InputError(
                "crop_scale and aspect change random crops: leave them out with centre crops "
                "(`crops=False`)"
            )

    @property
    def image_size(self) -> int:
        """`resize` in the form that data sets take: a plain number, `Squashed` or `Bilinear`."""
        if self.squash:
            return Squashed(self.resize)
        return Bilinear(self.resize) if self.bilinear else self.resize

    @property
    def resizes_otherwise(self) -> bool:
        """Whether images are resized in another way than `minialex prepare` does."""
        return self.squash or self.bilinear

    @property
    def warps(self) -> bool:
        """Whether images are changed on the host, beyond crops, mirrors and colour shifts."""
        resampled = self.crop_scale < 1 or self.aspect > 1 or self.rotation > 0
        coloured = self.brightness > 0 or self.contrast > 0 or self.saturation > 0
        return resampled or coloured or self.vertical_flip or self.erasing > 0 or self.mixup > 0

    @property
    def soft_targets(self) -> bool:
        """Whether the loss compares scores with a distribution over classes, not with a label."""
        return self.mixup > 0 or self.label_smoothing > 0 or self.class_weights

    def line(self) -> str:
        """The preprocessing, to print beside an accuracy (with the number of crops)."""
        means = {"crop": "mean image", "centre": "central mean image", "colour": "mean colour"}
        squashed = " both sides" if self.squash else " bilinear" if self.bilinear else ""
        return f"resize {self.resize}{squashed}, crop {self.crop}, minus {means[self.mean_window]}"
