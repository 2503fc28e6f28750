"""The paper's numbers, each with the section it comes from, in one frozen dataclass.

The defaults are the paper as printed; a model's recipe says only what differs from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

MeanWindow = Literal["crop", "centre", "colour"]


@dataclass(frozen=True)
class Recipe:
    """How images become network input, and how the network is trained."""

    # Images (sections 2 and 4.1)
    resize: int = 256  # the shorter side, then the central square
    crop: int = 227  # 224 in the paper's words; see layers/windows.py for the three pixels
    mean_window: MeanWindow = "crop"  # the mean image where the crop lies, central, or its colour
    random_crops: bool = True  # section 4.1, first form of augmentation
    crop_chunk: int = 1  # images in a row that share one crop position and mirroring
    mirror: bool = True
    colour_noise: float = 0.1  # standard deviation of the PCA shift, in standard deviations
    colour_divide: bool = False  # training images are divided by 1 + colour_noise

    # Learning (section 5)
    batch_size: int = 128
    momentum: float = 0.9
    weight_decay: float = 0.0005
    lr: float = 0.01
    schedule: str = "plateau"  # divided by ten when the validation error stops improving
    patience: int = 5  # epochs without improvement before that; the paper leaves it to judgement
    epochs: int = 90
    bias_rate: float = 1.0  # times the rate of the weights
    bias_decay: float = 1.0  # times the decay of the weights
    layer_rates: Mapping[str, float] = field(default_factory=dict)  # times the rate, by layer
    layer_decays: Mapping[str, float] = field(default_factory=dict)  # times the decay, by layer

    def line(self) -> str:
        """The evaluation half of the recipe, to stand beside an accuracy."""
        means = {"crop": "pixel mean", "centre": "central pixel mean", "colour": "mean colour"}
        mean = means[self.mean_window]
        return f"shorter side {self.resize}, centre square, RGB minus {mean}, crop {self.crop}"
