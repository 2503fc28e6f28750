"""The tables of `minialex summary`: one network layer by layer, or all named networks."""

from itertools import groupby

from minialex import models
from minialex.layers import (
    AveragePool,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Layer,
    MaxPool,
    ResponseNorm,
    SpatialResponseNorm,
)
from minialex.layers.base import WeightStd
from minialex.models import Model
from minialex.network import Row
from minialex.utils import table

_NOTES = """
Neurons are the outputs of convolutional and dense layers; connections are multiply-adds, without
biases. These are the paper's 60 million parameters and 650,000 neurons. Its figure 2 gives layer 1
253,440 neurons, a slip for 290,400; the 630 million connections that are sometimes quoted fit an
earlier network of the same authors. Without weight sharing, the first layer alone would have
290,400 x (11 x 11 x 3 + 1) = 105,705,600 parameters; it has 34,944.
"""

_LEGEND = """
channels: output channels of the convolutions; groups: groups of the convolutions (2: the two
towers); LRN: what the first one follows, with k and alpha as in the paper's formula (alpha is not
divided by n); std: standard deviation of the initial weights of conv1/conv3/last layer (He:
√(2 / inputs)); biases: initial values; 64*2: twice in a row; dropout: test = outputs scaled at test
time (the paper), train = inverted.
"""


def summary(model: Model) -> str:
    """A row for each layer, and totals, to compare with the paper."""
    rows = model.network.rows()
    named = models.variants().get(model.name)
    lines = [f"{model.name}: {named.summary if named else 'a network without a name'}"]
    lines.append(f"input {_shape(model.network.input_shape)}, {model.classes} classes\n")
    header = ("layer", "what", "output", "parameters", "neurons", "connections")
    cells = [
        (row.name, _what(row), _shape(row.output_shape), *map(_number, _counts(row)))
        for row in rows
    ]
    totals = [sum(column) for column in zip(*map(_counts, rows), strict=True)]
    cells.append(("total", "", "", *map(_number, totals)))
    lines.append(table.plain(header, cells, "<<>>>>"))
    if model.network.parameter_count == 60_965_224:
        lines.append(_NOTES.rstrip())
    return "\n".join(lines)


def variants() -> str:
    """A row for each named network, with what distinguishes them."""
    header = (
        *("name", "input", "channels", "groups", "LRN", "k", "alpha", "std", "biases", "dropout"),
        *("parameters", "Mconn."),
    )
    rows, notes = [], []
    for name, variant in models.variants().items():
        rows.append(_variant_row(models.get(name)))
        notes.append(f"{name:20} {variant.summary}")
    return "\n".join([table.plain(header, rows), "", *notes, _LEGEND.rstrip()])


def _variant_row(model: Model) -> tuple[str, ...]:
    layers = model.network.layers
    convolutions = [layer for _, layer in layers if isinstance(layer, Conv2D)]
    weighted = [layer for _, layer in layers if isinstance(layer, Conv2D | Dense)]
    norms = [i for i, (_, layer) in enumerate(layers) if isinstance(layer, ResponseNorm)]
    norm = layers[norms[0]][1] if norms else None
    dropouts = [layer for _, layer in layers if isinstance(layer, Dropout)]
    starts = (*convolutions[:1], *convolutions[2:3], *weighted[-1:])
    rows = model.network.rows()
    return (
        model.name,
        str(model.network.input_shape[0]),
        _runs([str(layer.channels) for layer in convolutions]),
        _runs([str(layer.groups) for layer in convolutions]),
        _before(model, norms[0]) if norms else "none",
        f"{norm.k:g}" if isinstance(norm, ResponseNorm) else "",
        f"{norm.alpha:g}" if isinstance(norm, ResponseNorm) else "",
        "/".join(_start(s.weight_std) for s in starts),
        _runs([f"{layer.bias:g}" for layer in weighted]),
        ("train" if dropouts[0].inverted else "test") if dropouts else "none",
        f"{model.network.parameter_count:,}",
        f"{sum(row.connections for row in rows) / 1e6:.0f}",
    )


def _before(model: Model, i: int) -> str:
    """What comes before layer `i`."""
    return f"after {_kind(model.network.layers[i - 1][1])}" if i else "first"


def _start(weight_std: WeightStd) -> str:
    if isinstance(weight_std, str):
        return weight_std.capitalize()
    return "He" if weight_std is None else f"{weight_std:g}"


def _runs(values: list[str]) -> str:
    """Values joined by dashes; in long rows, repeated values are written as 64*2."""
    if len(values) <= 8:
        return "-".join(values)
    runs = [(value, len(list(run))) for value, run in groupby(values)]
    return "-".join(value if count == 1 else f"{value}*{count}" for value, count in runs)


def _kind(layer: Layer) -> str:
    return {"MaxPool": "pool", "Conv2D": "conv"}.get(type(layer).__name__, type(layer).__name__)


def _what(row: Row) -> str:
    match row.layer:
        case Conv2D(channels=k, kernel=r, stride=s, pad=pad, groups=g):
            return f"{k} channels {r}x{r}/{s} pad {pad}" + (f", {g} groups" if g > 1 else "")
        case Dense(units=units):
            return f"{units} units"
        case ResponseNorm(n=n, k=k, alpha=alpha, beta=beta, groups=g):
            return f"LRN n={n} k={k:g} a={alpha:g} b={beta:g}" + (f", {g} groups" if g > 1 else "")
        case SpatialResponseNorm(n=n, k=k, alpha=alpha, beta=beta):
            return f"LRN in channel {n}x{n} k={k:g} a={alpha:g} b={beta:g}"
        case BatchNorm():
            return "batch normalisation"
        case Dropout(keep=keep):
            return f"dropout, keep {keep:g}"
        case MaxPool(window=z, stride=s):
            return f"max {z}x{z}/{s}"
        case AveragePool(window=z, stride=s):
            return f"average {z}x{z}/{s}"
        case layer:
            return type(layer).__name__


def _counts(row: Row) -> tuple[int, int, int]:
    return row.parameters, row.neurons, row.connections


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _number(value: int) -> str:
    return f"{value:,}" if value else ""
