"""The size to which an image is brought, where both of its sides are resized."""


class Squashed(int):
    """A size to which both sides of an image are resized, whatever their ratio.

    Another size than the same plain number, which is the shorter side's: images of both are kept
    apart wherever they are kept by size.
    """

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Squashed) and int(self) == int(other)

    def __ne__(self, other: object) -> bool:  # int has its own
        return not self == other

    def __hash__(self) -> int:
        return hash(("squashed", int(self)))
