"""The keys of PyTorch state dicts: strips wrappers, and puts modules in the order of layers."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

from minialex.errors import InputError
from minialex.exchange.tensors import StoredTensor

_PARTS = ("features", "pre_logits", "classifier", "head")  # in the order of the layers
# keys of a checkpoint under which its weights are, the first that it has
_CONTAINERS = ("state_dict", "model_state_dict", "model", "net", "model_ema", "state_dict_ema")
_WEIGHTS = {"weight", "bias"}
_NORM = {"weight", "bias", "running_mean", "running_var"}


@dataclass(frozen=True)
class Entry:
    """The tensors of one module and of the batch normalisation after it."""

    name: str
    tensors: Mapping[str, StoredTensor]
    norm: Mapping[str, StoredTensor] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.tensors["weight"].shape


def inputs_of(entry: Entry) -> int:
    """The number of inputs of each of the module's units."""
    return prod(entry.shape[1:])


def state_dict(path: Path, content: Any) -> dict[str, StoredTensor]:
    """The tensors with dotted names in a state dict, or in the checkpoint of a training script.

    Raises InputError if there are none, or several under keys that tell nothing about them.
    """
    inside = content if isinstance(content, Mapping) else {}
    for found in (content, *(inside[key] for key in _CONTAINERS if key in inside)):
        if tensors := _named(found):
            return _without_prefix(tensors)
    others = {key: tensors for key, value in inside.items() if (tensors := _named(value))}
    if len(others) > 1:
        raise InputError(
            f"{path} has weights under {', '.join(map(repr, others))}: save one of them alone"
        )
    for tensors in others.values():
        return _without_prefix(tensors)
    raise InputError(
        f"{path} is neither a minialex weight file nor a PyTorch state dict (tensors named by "
        "module): save the model's state_dict()"
    )


def _named(content: Any) -> dict[str, StoredTensor]:
    """The tensors of a state dict; empty for anything else."""
    if not isinstance(content, Mapping):
        return {}
    tensors = {
        key: value
        for key, value in content.items()
        if isinstance(key, str) and isinstance(value, StoredTensor)
    }
    return tensors if any(key.endswith(".weight") for key in tensors) else {}


def _without_prefix(tensors: dict[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Strip prefixes common to all names: DataParallel's "module.", Lightning's "model."."""
    while True:
        firsts = {key.split(".")[0] for key in tensors}
        if len(firsts) > 1 or min(key.count(".") for key in tensors) < 2:
            return tensors
        tensors = {key.split(".", 1)[1]: value for key, value in tensors.items()}


def entries_of(path: Path, tensors: Mapping[str, StoredTensor]) -> list[Entry]:
    """The modules in the order of the layers, each batch normalisation with the one before it."""
    modules: dict[str, dict[str, StoredTensor]] = {}
    for key, tensor in tensors.items():
        name, _, what = key.rpartition(".")
        if what != "num_batches_tracked":
            modules.setdefault(name, {})[what] = tensor
    found: list[Entry] = []
    for name in sorted(modules, key=_position):
        module = modules[name]
        if set(module) == _NORM and found and found[-1].norm is None:
            channels = found[-1].shape[:1]
            if any(tensor.shape != channels for tensor in module.values()):
                raise InputError(f"{path}: {name} does not normalise {found[-1].name}'s channels")
            before, here = place(found[-1].name), place(name)
            if before and here and here != (before[0], before[1] + 1):  # after a ReLU, for example
                raise InputError(
                    f"{path}: {name}, a batch normalisation, does not come right after "
                    f"{found[-1].name}: it cannot become part of its weights, so the file cannot "
                    "be imported"
                )
            found[-1] = replace(found[-1], norm=module)
        elif set(module) == _WEIGHTS and len(module["weight"].shape) in (2, 4):
            units = module["weight"].shape[:1]
            if module["bias"].shape != units:
                raise InputError(
                    f"{path}: {name}.bias is {module['bias'].shape} but must be {units}"
                )
            found.append(Entry(name, module))
        else:
            raise InputError(
                f"{path} is neither a minialex file nor a PyTorch AlexNet or VGG: it has "
                f"{name or 'no module'} with {', '.join(sorted(module)[:6])}"
            )
    return found


def place(name: str) -> tuple[str, int] | None:
    """The parent and number of a module in an `nn.Sequential`; None for any other name."""
    parent, _, number = name.rpartition(".")
    return (parent, int(number)) if re.fullmatch("[0-9]{1,9}", number) else None


def _position(name: str) -> tuple[Any, ...]:
    """Sorts modules by part, then by the numbers in their names."""
    part = name.split(".")[0]
    rank = _PARTS.index(part) if part in _PARTS else len(_PARTS)
    words = re.split(r"([0-9]+)", name)
    return rank, [_number(word) if word.isdecimal() else (-1, word) for word in words]


def _number(digits: str) -> tuple[int, str]:
    """Sorts numbers of any length: Python refuses to convert very long ones."""
    digits = digits.lstrip("0")
    return len(digits), digits


def is_dense(entry: Entry) -> bool:
    """timm writes VGG's first dense layers as convolutions."""
    return entry.name.startswith("pre_logits") or len(entry.shape) == 2


def unfamiliar(path: Path, entries: list[Entry]) -> InputError:
    shown = ", ".join(f"{e.name} {'x'.join(map(str, e.shape))}" for e in entries[:4])
    return InputError(
        f"{path} is neither a minialex file nor a PyTorch AlexNet or VGG ({shown}, ...): "
        "give the network with --as"
    )
