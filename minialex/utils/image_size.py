"""The sizes to which images are brought in another way than to the shorter side."""


class _Kind(int):
    """Another size than the same plain number, which is the shorter side's.

    Images of different kinds are kept apart wherever they are kept by size.
    """

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and int(self) == int(other)  # type: ignore[call-overload]

    def __ne__(self, other: object) -> bool:  # int has its own
        return not self == other

    def __hash__(self) -> int:
        return hash((type(self).__name__, int(self)))


class Squashed(_Kind):
    """A size to which both sides of an image are resized, whatever their ratio."""


class Bilinear(_Kind):
    """A shorter side by the bilinear filter, as torchvision resizes: of large JPEGs all is decoded.

    The longer side is rounded down, and the central square begins at a rounded offset.
    """
