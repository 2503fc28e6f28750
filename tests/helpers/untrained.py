"""Untrained classifiers of the drawn images, for tests of the surrounding code."""

from minialex import backends, models
from minialex.data.preprocessing import Preprocessing
from minialex.data.sources.open import open_data
from minialex.data.statistics import measure
from minialex.inference.classifier import Classifier
from minialex.parallel import SingleDevice


def untrained(seed: int = 0, name: str = "alexnet-64", **options) -> Classifier:
    """A classifier with large weights in the last layer, so that its predictions differ."""
    b = backends.get("numpy")
    model = models.get(name, 12, **options)
    params = model.network.init(b, seed=seed)
    last = list(params)[-1]
    params[last]["weight"] *= 100 if name.startswith("alexnet") else 1
    splits = open_data("shapes:48")
    preprocessing = Preprocessing(model.recipe, measure(splits.train, model.recipe.resize))
    names = splits.train.class_names, splits.train.class_ids
    data = {"data": "shapes:48", "seed": 0, "val_fraction": 0.1}
    devices = SingleDevice(model.network, b)
    return Classifier(model, params, preprocessing, *names, devices, data)
