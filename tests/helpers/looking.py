"""A small network of two towers, untrained, and images for it: to look inside."""

import numpy as np

from minialex import backends
from minialex.data.preprocessing import Preprocessing
from minialex.data.statistics import Statistics
from minialex.inference.trained_model import TrainedModel
from minialex.layers import Conv2D, Dense, Dropout, MaxPool, ReLU, ResponseNorm
from minialex.models.recipe import Recipe
from minialex.network import Network
from minialex.parallel import SingleDevice

SIZE, CROP = 15, 13
NORM = ResponseNorm(3, 1.0, 1e-4, 0.75, groups=2)
LAYERS = (
    ("conv1", Conv2D(4, 3, stride=2, pad=1, weight_std=0.5)),
    ("relu1", ReLU()),
    ("norm1", NORM),
    ("pool1", MaxPool(3, 2)),
    ("conv2", Conv2D(6, 3, pad=1, groups=2, weight_std=0.5, bias=0.1)),
    ("relu2", ReLU()),
    ("fc3", Dense(5, weight_std=0.05)),
    ("relu3", ReLU()),
    ("drop3", Dropout()),
    ("fc4", Dense(3, weight_std=0.1)),
)


def model_of(layers=LAYERS, b=None, dtype="float64"):
    """An untrained model whose images are 15 x 15, the crop 13 x 13."""
    b = b or backends.get("numpy")
    network = Network(layers, (CROP, CROP, 3))
    params = network.init(b, seed=3, dtype=dtype)
    mean = np.full((SIZE, SIZE, 3), 100.0, np.float32)
    statistics = Statistics(mean, np.ones(3), np.eye(3), 10)
    preprocessing = Preprocessing(Recipe(resize=SIZE, crop=CROP), statistics)
    return TrainedModel(network, params, preprocessing, SingleDevice(network, b), dtype)
