"""Converts cuda-convnet's parameters, whose filters are columns, one channel after another."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from minialex.exchange.convnet import checkpoint
from minialex.exchange.convnet.graph import Node
from minialex.exchange.convnet.network import Columns
from minialex.layers import Conv2D
from minialex.network import Network
from minialex.tree import Tree


def parameters(
    network: Network, sources: Mapping[str, Columns], found: Mapping[str, dict[str, Any]]
) -> Tree:
    """The trained weights and biases; ValueError with the name of a layer they do not fit."""
    made: Tree = {}
    for name, layer in network.layers:
        if name not in sources:
            continue
        columns = sources[name]
        parts = []
        for node in columns.nodes:
            below = [one for one in columns.below if one.name in node.inputs]
            parts.append(
                _filters(layer, node, below, found[node.name])
                if isinstance(layer, Conv2D)
                else _dense(node, below, found[node.name])
            )
        bias = [checkpoint.array(found[one.name], "biases", 0).ravel() for one in columns.nodes]
        made[name] = {
            "weight": np.ascontiguousarray(np.concatenate(parts, axis=-1)),
            "bias": np.concatenate(bias),
        }
    return made


def _block(node: Node, source: Node, values: dict[str, Any], rows: int, outputs: int) -> np.ndarray:
    """The weights between a layer and one of its inputs: (rows, outputs)."""
    block = checkpoint.array(values, "weights", node.inputs.index(source.name))
    if block.shape != (rows, outputs):
        raise ValueError(
            f"layer {node.name!r} has weights of {block.shape}: expected {(rows, outputs)}"
        )
    return block


def _filters(layer: Conv2D, node: Node, below: list[Node], values: dict[str, Any]) -> np.ndarray:
    """(C, R, S, K) of each input -> (R, S, C/G, K)."""
    r, groups = layer.kernel, node.integer("groups", 1)
    blocks = []
    for source in below:
        channels = source.outputs // max(1, source.size) ** 2 // groups
        block = _block(node, source, values, channels * r * r, node.channels)
        blocks.append(block.reshape(channels, r, r, node.channels))
    return np.concatenate(blocks).transpose(1, 2, 0, 3)


def _dense(node: Node, below: list[Node], values: dict[str, Any]) -> np.ndarray:
    """(C, H, W, O) of each input -> (H W C, O) over all of them."""
    blocks = []
    for source in below:
        block = _block(node, source, values, source.outputs, node.channels)
        side = max(1, source.size)
        blocks.append(block.reshape(source.channels, side, side, node.channels))
    joined = np.concatenate(blocks).transpose(1, 2, 0, 3)  # (H, W, C, O)
    return joined.reshape(-1, node.channels)
