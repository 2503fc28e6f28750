"""Image sizes for ways of resizing other than the default (shorter side, bicubic)."""


class _Kind(int):
    """A size that is not equal to the same plain int, which means the shorter side.

    Caches keyed by size therefore keep the kinds apart.
    """

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and int(self) == int(other)  # type: ignore[call-overload]

    def __ne__(self, other: object) -> bool:  # int defines its own
        return not self == other

    def __hash__(self) -> int:
        return hash((type(self).__name__, int(self)))


class Squashed(_Kind):
    """A size to which both sides of an image are resized, whatever their ratio."""


class Bilinear(_Kind):
    """The shorter side, resized bilinearly as in torchvision; JPEGs are decoded at full size.

    The longer side is rounded down, and the central square begins at a rounded offset.
    """
