"""Fine-tuning in PyTorch as a user would write it: SGD with momentum, random crops, mirroring."""

import time
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np

from minialex.bench import pytorch
from minialex.bench.torch_training import Images
from minialex.data.preprocessing import CENTRES_FIRST
from minialex.exchange.inference_form import split_scale, with_inverted_dropout
from minialex.exchange.portable import PortableModel
from minialex.exchange.tensors import stored_convolution_weight, stored_dense_weight
from minialex.inference.classifier import Classifier
from minialex.models import Model
from minialex.tree import Tree, map_tree

_OF_BATCH_NORM = {  # {PyTorch's name: ours}
    "weight": "weight",
    "bias": "bias",
    "running_mean": "running_mean",
    "running_var": "running_variance",
}
_AT_ONCE = 64  # images per batch if no gradients are needed

Drawn = Callable[[Any], Any]  # images' numbers -> inputs


class Tuner:
    """A classifier's network in PyTorch, with its weights and preprocessing and a new last layer.

    The methods return the accuracy on the centre crops of `val`, in 0 … 1.
    """

    def __init__(self, source: Classifier, classes: int, threads: int | None, layout: Any = None):
        import torch

        if threads is not None:
            torch.set_num_threads(threads)
        torch.manual_seed(0)
        self.source, self.torch = source, torch
        network = in_torch(*_with_torch_dropout(source))
        last = network[-1]
        network[-1] = torch.nn.Linear(last.in_features, classes)
        scale, _ = split_scale(source.model.network)
        self._scale = np.asarray(1.0 if scale is None else scale, np.float32)
        self._layout = layout or self.faster_layout(network)
        self.network = network.to(memory_format=self._layout)

    def all_layers(
        self, train: Images, val: Images, epochs: int, lr: float, batch_size: int
    ) -> float:
        """Every layer, on random crops."""

        def drawn(chosen: Any) -> Any:
            return self._inputs(self._augmented(train.pixels[chosen.numpy()]))

        self._train(self.network, drawn, train.labels, epochs, lr, batch_size)
        return self._accuracy(self.network, self._view(val.pixels, 0), val.labels)

    def last_layer(
        self, train: Images, val: Images, epochs: int, lr: float, batch_size: int
    ) -> float:
        """The layers after the last but one with weights, on its outputs for ten crops."""
        body, head = _split(self.network)
        views = self.torch.stack(
            [self._outputs(body, self._view(train.pixels, i)) for i in range(10)]
        )
        held = self._outputs(body, self._view(val.pixels, 0))

        def drawn(chosen: Any) -> Any:
            return views[self.torch.randint(len(views), (len(chosen),)), chosen]

        self._train(head, drawn, train.labels, epochs, lr, batch_size)
        return self._accuracy(head, held, val.labels)

    # ------------------------------------------------------------------------------ images

    def _view(self, pixels: np.ndarray, number: int) -> np.ndarray:
        """One of the ten crops of all images, the centre first: uint8 (N, crop, crop, 3)."""
        ten = self.source.preprocessing.ten_views()
        top, left, mirrored = ten[CENTRES_FIRST[number]]
        crop = self.source.model.recipe.crop
        cut = pixels[:, top : top + crop, left : left + crop]
        return cut[:, :, ::-1] if mirrored else cut

    def _augmented(self, pixels: np.ndarray) -> np.ndarray:
        crop = self.source.model.recipe.crop
        room = pixels.shape[1] - crop + 1
        corners = self.torch.randint(room, (len(pixels), 2)).tolist()
        cut = np.stack(
            [
                image[top : top + crop, left : left + crop]
                for image, (top, left) in zip(pixels, corners, strict=True)
            ]
        )
        mirrored = (self.torch.rand(len(cut)) < 0.5).numpy()
        cut[mirrored] = cut[mirrored, :, ::-1]
        return cut

    def _inputs(self, pixels: np.ndarray) -> Any:
        """uint8 (N, S, S, 3) -> float32 N C H W, minus the mean colour and scaled."""
        mean = self.source.preprocessing.mean.mean(axis=(0, 1), dtype=np.float64)
        x = self.torch.from_numpy((pixels - np.float32(mean)) * self._scale)
        return x.permute(0, 3, 1, 2).contiguous(memory_format=self._layout)

    # ------------------------------------------------------------------------------ passes

    def _train(
        self,
        network: Any,
        drawn: Drawn,
        labels: np.ndarray,
        epochs: int,
        lr: float,
        batch_size: int,
    ) -> None:
        torch, answers = self.torch, self.torch.from_numpy(np.int64(labels))
        optimiser = torch.optim.SGD(network.parameters(), lr, momentum=0.9, weight_decay=5e-4)
        network.train()
        for _ in range(epochs):
            for chosen in torch.randperm(len(answers)).split(batch_size):
                optimiser.zero_grad()
                loss = torch.nn.functional.cross_entropy(network(drawn(chosen)), answers[chosen])
                loss.backward()
                optimiser.step()

    def _outputs(self, network: Any, pixels: np.ndarray) -> Any:
        network.eval()
        parts = range(0, len(pixels), _AT_ONCE)
        with self.torch.no_grad():
            return self.torch.cat([network(self._inputs(pixels[i : i + _AT_ONCE])) for i in parts])

    def _accuracy(self, network: Any, inputs: Any, labels: np.ndarray) -> float:
        """`inputs` are images, or outputs of frozen layers."""
        network.eval()
        if isinstance(inputs, np.ndarray):
            scores = self._outputs(network, inputs)
        else:
            with self.torch.no_grad():
                scores = network(inputs)
        return float((scores.argmax(1).numpy() == labels).mean())

    @property
    def layout(self) -> Any:
        """The memory format, for other tuners of the same network."""
        return self._layout

    def faster_layout(self, network: Any) -> Any:
        """The memory format in which a pass of the network is faster."""
        torch, seconds = self.torch, {}
        h, w, c = self.source.model.network.input_shape
        network = deepcopy(network)  # whose running statistics change
        for layout in (torch.contiguous_format, torch.channels_last):
            network = network.to(memory_format=layout)
            x = torch.zeros(16, c, h, w).contiguous(memory_format=layout)
            for _ in range(2):  # the first warms up
                start = time.perf_counter()
                network(x).sum().backward()
                seconds[layout] = time.perf_counter() - start
        return min(seconds, key=seconds.__getitem__)


def in_torch(model: Model, params: Tree) -> Any:
    """The network as PyTorch modules, without a factor on its input, with these weights."""
    import torch

    _, network = split_scale(model.network)
    made: Any = pytorch.network_in_torch(network)
    shapes = dict(zip([name for name, _ in network.layers], network.shapes(), strict=False))
    kinds = torch.nn.Conv2d | torch.nn.Linear | torch.nn.BatchNorm1d | torch.nn.BatchNorm2d
    modules: list[Any] = [one for one in made if isinstance(one, kinds)]
    with torch.no_grad():
        for module, (name, of) in zip(modules, params.items(), strict=True):
            if "running_mean" in of:
                for theirs, ours in _OF_BATCH_NORM.items():
                    getattr(module, theirs).copy_(torch.from_numpy(np.asarray(of[ours])))
                continue
            weight = np.asarray(of["weight"])
            if weight.ndim == 2:
                weight = stored_dense_weight(weight, shapes[name])
            else:
                weight = stored_convolution_weight(weight)
            module.weight.copy_(torch.from_numpy(weight))
            module.bias.copy_(torch.from_numpy(np.asarray(of["bias"])))
    return made


def _with_torch_dropout(source: Classifier) -> tuple[Model, Tree]:
    """The network and its weights with PyTorch's form of dropout: the same function."""
    to_numpy = source.devices.to_numpy
    params = map_tree(lambda array: np.asarray(to_numpy(array)), source.params)
    portable = PortableModel("minialex", source.model, params, source.preprocessing)
    made = with_inverted_dropout(portable)
    return made.model, made.params


def _split(network: Any) -> tuple[Any, Any]:
    """The modules up to the last weights but one and its ReLU, and those after them."""
    from torch import nn

    weighted = [i for i, one in enumerate(network) if isinstance(one, nn.Conv2d | nn.Linear)]
    end = weighted[-2] + 1
    while not isinstance(network[end], nn.Dropout | nn.Linear):
        end += 1
    return network[:end], network[end:]
