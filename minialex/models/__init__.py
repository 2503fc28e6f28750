"""The named networks: their layers, and the recipes that train them."""

from minialex.models.alexnet import AlexNet
from minialex.models.registry import Model, Variant, get, names, new_options, stored, variants

__all__ = ["AlexNet", "Model", "Variant", "get", "names", "new_options", "stored", "variants"]
