"""The named networks: their layers, and their training recipes."""

from minialex.models.alexnet import AlexNet
from minialex.models.recipe import Recipe
from minialex.models.registry import (
    Model,
    Variant,
    get,
    names,
    new_options,
    register,
    require_options,
    stored,
    use,
    variants,
)

__all__ = [
    "AlexNet",
    "Model",
    "Recipe",
    "Variant",
    "get",
    "names",
    "new_options",
    "register",
    "require_options",
    "stored",
    "use",
    "variants",
]
