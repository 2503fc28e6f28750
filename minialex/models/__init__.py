"""The named networks: what each is built of, and the recipe it is trained by."""

from minialex.models.alexnet import AlexNet
from minialex.models.registry import Model, Variant, get, names, variants

__all__ = ["AlexNet", "Model", "Variant", "get", "names", "variants"]
