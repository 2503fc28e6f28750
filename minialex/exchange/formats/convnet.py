"""cuda-convnet's checkpoints, from all its versions and the source code of the 2012 network."""

from pathlib import Path

from minialex import models
from minialex.data.preprocessing import Preprocessing
from minialex.errors import InputError, reason
from minialex.exchange.convnet import checkpoint, graph, network, weights
from minialex.exchange.formats.format import Format, Request
from minialex.exchange.means import LARGEST_SIDE, measured
from minialex.exchange.portable import PortableModel, colour_statistics, image_statistics
from minialex.exchange.pytorch.file import is_torch
from minialex.models import layer_list


def _matches(path: Path, head: bytes) -> bool:
    found = checkpoint.newest(path)
    if path.is_dir():
        return found is not None
    if is_torch(head):  # its training scripts have a "model_state_dict"
        return False
    return head.startswith((b"\x80", b"PK")) and (found is not None or b"model_state" in head)


def _read(request: Request) -> PortableModel:
    path = checkpoint.newest(request.path) or request.path
    found = checkpoint.layers(path)
    try:
        side = checkpoint.image_side(found)
        if side > LARGEST_SIDE:
            raise ValueError(f"it takes images of {side} x {side} pixels, which is too large")
        nodes = graph.graph(checkpoint.sections(found), side)
        made, sources = network.network(nodes, {})
        params = weights.parameters(made, sources, found)
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} cannot be used ({reason(error)})") from None
    size = made.input_shape[0]
    resize = 256 if size == 224 else 32 if 24 <= size <= 32 else size
    fields = {"crop": size, "resize": resize, "mean_window": "centre"}
    fields |= {"bias_rate": 2.0, "bias_decay": 0.0}
    if request.mean is not None:
        statistics = image_statistics(measured(request.mean, resize))
        note = f"mean image: {request.mean}"
    elif request.for_training:
        statistics, note = colour_statistics(resize, (0.0,) * 3), ""
    else:
        raise InputError(
            f"{path} was trained on images minus their mean image, which it does not contain: give "
            "the folder of the training images with --mean"
        )
    model = models.get(layer_list.NAME, made.classes, **layer_list.options_of(made, fields))
    preprocessing = Preprocessing(model.recipe, statistics)
    return PortableModel(
        "cuda-convnet", model, params, preprocessing, notes=(note,) if note else ()
    )


FORMAT = Format("cuda-convnet", 10, _matches, _read, takes=("mean",))
