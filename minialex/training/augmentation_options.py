"""The training options that change images and targets; None means the recipe's value."""

from minialex.utils.arguments import FRACTION, Flag, Number
from minialex.utils.options import option

GROUP = "augmentation (default: chosen for the number of images)"
_SHARE = Number(float, above=0, at_most=1)

CROP_SCALE = option(
    None,
    "smallest fraction of the image area in a random crop, e.g. 0.35 (1: crops of fixed size, "
    "as in the paper)",
    group=GROUP,
    type=_SHARE,
    metavar="S",
)
ASPECT = option(
    None,
    "change the aspect ratio of random crops by up to this factor, either way (1)",
    group=GROUP,
    type=Number(float, at_least=1, at_most=4),
    metavar="R",
)
ROTATION = option(
    None,
    "rotate images by up to this many degrees, either way (0)",
    group=GROUP,
    type=Number(float, at_least=0, at_most=180),
    metavar="DEG",
)
VERTICAL_FLIP = option(None, "flip half of the images upside down", group=GROUP, type=Flag())
BRIGHTNESS = option(
    None,
    "change brightness by up to this fraction, up or down (0)",
    group=GROUP,
    type=FRACTION,
    metavar="A",
)
CONTRAST = option(
    None,
    "change contrast by up to this fraction, up or down (0)",
    group=GROUP,
    type=FRACTION,
    metavar="A",
)
SATURATION = option(
    None,
    "change saturation by up to this fraction, up or down (0)",
    group=GROUP,
    type=FRACTION,
    metavar="A",
)
ERASING = option(
    None,
    "probability of covering a rectangle of the image with the mean colour (0)",
    group=GROUP,
    type=Number(float, at_least=0, at_most=1),
    metavar="P",
)
MIXUP = option(
    None,
    "MixUp: blend pairs of images, with weights from Beta(A, A), e.g. 0.2 (0: off)",
    group=GROUP,
    type=Number(float, at_least=0),
    metavar="A",
)
AUGMENT = option(
    None,
    "your own function (image, draw) -> image, as FILE.py:FUNCTION",
    group=GROUP,
    metavar="NAME",
)
LABEL_SMOOTHING = option(
    None,
    "probability mass spread evenly over all classes, e.g. 0.1 (0)",
    group=GROUP,
    type=FRACTION,
    metavar="P",
)
CLASS_WEIGHTS = option(
    None,
    "weight the training loss so that classes with few images count as much as the others",
    group=GROUP,
    type=Flag(),
)

OF_IMAGES = (
    "crop_scale",
    "aspect",
    "rotation",
    "vertical_flip",
    "brightness",
    "contrast",
    "saturation",
    "erasing",
    "mixup",
    "augment",
)
OF_RECIPE = (*OF_IMAGES, "label_smoothing", "class_weights")
