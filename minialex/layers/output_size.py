"""The output size of convolution and pooling: two rules, which differ in their padding.

    floor   every window must fit into the padded image (convolutions in Caffe and PyTorch)
    ceil    the last window may extend beyond the right and bottom edge (the original code, for
            both convolution and pooling, and pooling in Caffe)

With the original code's rule, a 224 x 224 input, an 11 x 11 kernel and stride 4 give an output of
55: three zeros are read beyond the right and bottom edge. The ceil rule is the floor rule with that
overhang as extra padding, so the ops only need the floor rule.
"""

from minialex.backends.base import Pads, output_shape
from minialex.errors import InputError
from minialex.layers.base import Shape


def pads(input_shape: Shape, window: int, stride: int, pad: int, rounding: str) -> Pads:
    """Pads ((top, bottom), (left, right)) with which the floor rule gives the right output size."""
    if len(input_shape) != 3:
        raise InputError(
            f"a window moves over images (H, W, C), not over an input of {input_shape}"
        )
    found = []
    for extent in input_shape[:2]:
        room = extent + 2 * pad - window
        if room < 0:
            raise InputError(
                f"a {window}x{window} window does not fit into {input_shape[0]}x{input_shape[1]} "
                f"pixels with padding {pad}: use larger images or a network for small ones"
            )
        overhang = -room % stride if rounding == "ceil" else 0
        if room + overhang >= extent + pad:
            overhang = 0  # a last window that covers only padding is dropped, as in Caffe
        found.append((pad, pad + overhang))
    return found[0], found[1]


def windows(input_shape: Shape, window: int, stride: int, pads: Pads) -> tuple[int, int]:
    """(P, Q), the height and width of the output."""
    size = (input_shape[0], input_shape[1])
    return output_shape(size, (window, window), (stride, stride), pads)


def check(kind: str, window: int, stride: int, pad: int, rounding: str) -> None:
    """Raise InputError for invalid hyper-parameters."""
    if window < 1 or stride < 1 or pad < 0:
        raise InputError(
            f"{kind}: window {window}, stride {stride} and padding {pad} were given; "
            "window and stride must be at least 1, padding at least 0"
        )
    if rounding not in ("floor", "ceil"):
        raise InputError(f'{kind}: rounding must be "floor" or "ceil", not {rounding!r}')
