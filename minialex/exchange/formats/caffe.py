"""Caffe's weight files: a .caffemodel with or without its prototxt, and a .solverstate."""

import mmap
import shlex
from dataclasses import replace
from pathlib import Path

from minialex.errors import InputError, reason
from minialex.exchange.caffe import images, model, wire
from minialex.exchange.caffe.layers import has_bias, layers_of
from minialex.exchange.caffe.message import Message
from minialex.exchange.definitions import read_prototxt
from minialex.exchange.formats.format import Format, Request
from minialex.exchange.means import measured
from minialex.exchange.portable import PortableModel
from minialex.utils.image_size import Squashed

_MODEL, _STATE, _TEXT = ".caffemodel", ".solverstate", ".prototxt"


def _matches(path: Path, head: bytes) -> bool:
    return path.name.removesuffix(".h5").endswith((_MODEL, _STATE, _TEXT))


def _read(request: Request) -> PortableModel:
    path = request.path
    if path.suffix == ".h5":
        raise InputError(
            f"{path} is in HDF5: save it again with `snapshot_format: BINARYPROTO` in the solver"
        )
    if path.suffix == _TEXT:
        raise InputError(
            f"{path} describes a network without weights: give the {_MODEL} file, and this one "
            "with --definition"
        )
    try:
        return _continued(request) if path.suffix == _STATE else _trained(request)[1]
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{path} cannot be used ({reason(error)})") from None


def _trained(request: Request) -> tuple[model.CaffeModel, PortableModel]:
    """The weights by layer name, in the network of the file or of its definition."""
    path = request.path
    net = own = _message(path, "Net")
    blobs = {layer.name: layer.fields.get("blobs", []) for layer in layers_of(net)}
    if request.definition is not None:
        net = read_prototxt(request.definition)
    mean = None
    if request.mean is not None and not request.mean.is_dir():
        mean = images.mean_image(request.mean)
    found = model.described(net, blobs, mean)
    if found.images.says_nothing:  # as in a definition for deployment: the weights' file may
        trained = images.described(own, layers_of(own))
        said = replace(
            found.images,
            mean_file=trained.mean_file,
            mean_values=trained.mean_values,
            scale=trained.scale,
        )
        found = replace(found, images=said)
    if images.is_rgb(found.images, own.text("name")):  # a definition may have another name or none
        found = replace(found, rgb=True)
    if request.colours is not None and found.network.input_shape[2] == 3:
        found = replace(found, rgb=request.colours == "RGB")
    if mean is not None and not found.rgb:
        mean = mean[:, :, ::-1]
    if request.mean is not None and mean is None:
        mean = measured(request.mean, Squashed(model.resized_to(found.network)))
    with_mean = None if mean is None else (mean, str(request.mean))
    return found, model.portable(found, found.tree(blobs), with_mean, request)


def _continued(request: Request) -> PortableModel:
    """A solver state and the weight file that it names, in the same folder."""
    path = request.path
    state = _message(path, "SolverState")
    named = Path(state.text("learned_net")).name
    beside = [path.with_suffix(_MODEL), *([path.parent / named] if named else [])]
    weights = next((one for one in beside if one.suffix == _MODEL and one.is_file()), None)
    if weights is None:
        raise InputError(f"{path} is the state of {beside[0].name}: put that file beside it")
    found, portable = _trained(replace(request, path=weights))
    if found.folds:
        raise ValueError(
            "its network has batch normalisation, which cannot be trained: fine-tune the "
            f"{_MODEL} instead"
        )
    history = state.get("history", [])
    counts = {name: 1 + has_bias(source) for name, source in found.sources.items()}
    if len(history) != sum(counts.values()):
        raise ValueError(
            f"it has {len(history)} arrays of momentum for {sum(counts.values())} "
            "parameters: only SGD's state can be continued"
        )
    arrays = iter(history)
    by_layer = {name: [next(arrays) for _ in range(count)] for name, count in counts.items()}
    velocities = {
        layer: {name: -array for name, array in of.items()}  # Caffe subtracts its history
        for layer, of in found.tree(by_layer).items()
    }
    step = state.integer("iter", 0, most=1 << 40)
    again = f"--from {shlex.quote(str(path))}"
    note = f"step {step:,}; continue the training, with its momentum, with {again}"
    return replace(
        portable, velocities=velocities, state={"step": step}, notes=(*portable.notes, note)
    )


def _message(path: Path, kind: str) -> Message:
    """A binary file, mapped: its arrays are views."""
    with path.open("rb") as file:
        if not path.stat().st_size:
            raise ValueError("it is empty")
        return wire.parse(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)), kind)


_TAKES = ("as_model", "definition", "mean", "colours")
FORMAT = Format("Caffe", 30, _matches, _read, takes=_TAKES)
