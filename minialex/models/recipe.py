"""A model's hyper-parameters for images and training, each with the section of the paper.

The defaults are the paper as printed; a model's recipe gives only what differs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from minialex.utils.image_size import Squashed

MeanWindow = Literal["crop", "centre", "colour"]


@dataclass(frozen=True)
class Recipe:
    """Preprocessing, augmentation and training of one model."""

    # Images (sections 2 and 4.1)
    resize: int = 256  # of the shorter side; the central square is kept
    squash: bool = (
        False  # both sides are resized instead, whatever their ratio, as Caffe's tools do
    )
    crop: int = 227  # 224 in the paper's text; layers/output_size.py explains the difference
    mean_window: MeanWindow = "crop"  # mean image cut as the crop, cut centrally, or its colour
    random_crops: bool = True  # section 4.1, first form of augmentation
    crop_chunk: int = 1  # consecutive images that share one crop position and mirroring
    mirror: bool = True
    colour_noise: float = 0.1  # standard deviation of the PCA factors (section 4.1)
    colour_divide: bool = False  # divide training images by 1 + colour_noise

    # Learning (section 5)
    batch_size: int = 128
    momentum: float = 0.9
    weight_decay: float = 0.0005
    lr: float = 0.01
    schedule: str = "plateau"  # divided by ten when the validation error stops improving
    patience: int = 5  # epochs without improvement before that; the paper adjusted by hand
    epochs: int = 90
    bias_rate: float = 1.0  # times the learning rate of the weights
    bias_decay: float = 1.0  # times the decay of the weights
    layer_rates: Mapping[str, float] = field(default_factory=dict)  # times the rate, of a layer
    layer_decays: Mapping[str, float] = field(default_factory=dict)  # or a "layer.parameter"

    @property
    def image_size(self) -> int:
        """`resize` as data sets take it: a plain number, or `Squashed`."""
        return Squashed(self.resize) if self.squash else self.resize

    def line(self) -> str:
        """The preprocessing, to print beside an accuracy (with the number of crops)."""
        means = {"crop": "mean image", "centre": "central mean image", "colour": "mean colour"}
        squashed = " both sides" if self.squash else ""
        return f"resize {self.resize}{squashed}, crop {self.crop}, minus {means[self.mean_window]}"
