"""The two-stream video networks: "cnn-m-2048" as published, and the small "stream-48"."""

from minialex.layers import Conv2D, Dense, Dropout, MaxPool, ReLU, ResponseNorm
from minialex.network import Network


def cnn_m(
    classes: int = 1000,
    *,
    channels: int = 3,
    second_norm: bool = True,
    keep: float = 0.5,
    inverted: bool = False,
    input_size: int = 224,
    hidden: tuple[int, int] = (4096, 2048),
) -> Network:
    """CNN-M-2048 (Chatfield et al., 2014), both streams of Simonyan & Zisserman (2014, figure 1).

    The temporal stream has `channels=20` (x and y of ten flow fields), no second normalisation and,
    trained from scratch, `keep=0.1`. `inverted` is the form of dropout (see `Dropout`). He
    initialisation except in the first and last layer is our choice.
    """
    pool = MaxPool(3, 2, rounding="ceil")
    norm = ResponseNorm(n=5, k=2.0, alpha=1e-4, beta=0.75)
    layers = (
        ("conv1", Conv2D(96, 7, stride=2)),
        ("relu1", ReLU()),
        ("norm1", norm),
        ("pool1", pool),
        ("conv2", Conv2D(256, 5, stride=2, pad=1, weight_std=None)),
        ("relu2", ReLU()),
        ("norm2", norm),
        ("pool2", pool),
        ("conv3", Conv2D(512, 3, pad=1, weight_std=None)),
        ("relu3", ReLU()),
        ("conv4", Conv2D(512, 3, pad=1, weight_std=None)),
        ("relu4", ReLU()),
        ("conv5", Conv2D(512, 3, pad=1, weight_std=None)),
        ("relu5", ReLU()),
        ("pool5", pool),
        ("fc6", Dense(hidden[0], weight_std=None)),
        ("relu6", ReLU()),
        ("drop6", Dropout(keep, inverted=inverted)),
        ("fc7", Dense(hidden[1], weight_std=None)),
        ("relu7", ReLU()),
        ("drop7", Dropout(keep, inverted=inverted)),
        ("fc8", Dense(classes, weight_std=0.001)),
    )
    kept = tuple((n, layer) for n, layer in layers if second_norm or n != "norm2")
    return Network(kept, (input_size, input_size, channels))


def stream_48(classes: int = 1000, *, channels: int = 3) -> Network:
    """Three convolutions and two dense layers for 48 x 48 crops; trains in minutes on a CPU."""
    layers = (
        ("conv1", Conv2D(32, 5, stride=2, pad=2)),
        ("relu1", ReLU()),
        ("norm1", ResponseNorm()),
        ("pool1", MaxPool(3, 2)),
        ("conv2", Conv2D(64, 3, pad=1, weight_std=None)),
        ("relu2", ReLU()),
        ("pool2", MaxPool(3, 2)),
        ("conv3", Conv2D(64, 3, pad=1, weight_std=None)),
        ("relu3", ReLU()),
        ("fc4", Dense(128, weight_std=None)),
        ("relu4", ReLU()),
        ("drop4", Dropout(0.5)),
        ("fc5", Dense(classes, weight_std=0.001)),
    )
    return Network(layers, (48, 48, channels))
