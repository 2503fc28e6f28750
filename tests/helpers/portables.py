"""Any network as a portable model with random weights."""

import numpy as np

from minialex import backends, models
from minialex.data.preprocessing import Preprocessing
from minialex.exchange.portable import PortableModel, image_statistics
from minialex.models import layer_list


def drawn(network, resize=None, seed=3, model=None):
    """Weights and biases that all matter, with a mean image; `model` may name the network."""
    crop = network.input_shape[0]
    recipe = {"resize": resize or crop, "mean_window": "crop", "crop": crop}
    model = model or models.get("layers", network.classes, **layer_list.options_of(network, recipe))
    rng = np.random.default_rng(seed)
    params = network.init(backends.get("numpy"), seed)
    for of in params.values():
        shape = of["weight"].shape
        std = (2 / np.prod(shape[:-1])) ** 0.5
        of["weight"] = rng.normal(0, std, shape).astype(np.float32)
        of["bias"] = rng.normal(0, 0.3, shape[-1:]).astype(np.float32)
        if "running_mean" in of:
            of["running_mean"] = rng.normal(0, 0.3, shape).astype(np.float32)
            of["running_variance"] = rng.uniform(0.2, 2, shape).astype(np.float32)
    side = model.recipe.resize
    mean = rng.uniform(90, 140, (side, side, 3)).astype(np.float32)
    return PortableModel("test", model, params, Preprocessing(model.recipe, image_statistics(mean)))
