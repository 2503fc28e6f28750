"""A .cfg as a network: to print and, if all its layers are supported, to train."""

from dataclasses import dataclass
from pathlib import Path

from minialex import models
from minialex.errors import InputError, reason
from minialex.exchange.convnet import cfg, graph, network, table
from minialex.exchange.convnet.cfg import Sections
from minialex.exchange.convnet.graph import Node
from minialex.models import Model, layer_list

_LARGEST = 4096  # pixels on a side


@dataclass(frozen=True)
class Layers:
    """A definition with its shapes."""

    path: Path
    nodes: dict[str, Node]
    parameters: Sections

    def model(self, classes: int | None = None) -> Model:
        """The model "layers" with this network; ValueError for unsupported layers."""
        made, _ = network.network(self.nodes, self.parameters)
        fields = network.recipe(self.nodes, self.parameters)
        size = made.input_shape[0]
        fields |= {"crop": size, "resize": 256 if size == 224 else 32}
        if size == 224:  # ILSVRC's images as the authors augmented them
            fields |= {"mean_window": "centre", "crop_chunk": 32}
            fields |= {"colour_noise": 0.1, "colour_divide": True}
        options = layer_list.options_of(made, fields)
        return models.get(layer_list.NAME, classes or made.classes, **options)

    def summary(self) -> str:
        """The table of all layers, and whether the network can be trained."""
        name = self.path.name
        try:
            self.model()
            trains = f"all layers are supported: train it with minialex train --model {name}"
        except ValueError as error:
            trains = f"cannot be trained: {error}"
        return table.summary(name, self.nodes, trains)


def open_cfg(path: Path, size: int | None = None) -> Layers:
    """The definition in a file of layers or of parameters; InputError for any other file.

    `size` is the images' side, which no definition gives; the default suits the first layer.
    """
    found = cfg.open_pair(path)
    try:
        size = size or graph.image_size(found.layers)
        if not 1 <= size <= _LARGEST:
            raise ValueError(f"images of {size} pixels on a side")
        return Layers(found.path, graph.graph(found.layers, size), found.parameters)
    except ValueError as error:
        raise InputError(f"{path} cannot be used ({reason(error)})") from None
