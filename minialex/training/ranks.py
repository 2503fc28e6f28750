"""Training on several ranks: their micro-batches, and that all of them train the same."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from minialex import __version__
from minialex.data.dataset import Splits
from minialex.data.image_record import fingerprint
from minialex.errors import InputError
from minialex.parallel import Devices
from minialex.parallel.world import World
from minialex.training.config import TrainConfig
from minialex.training.state import State
from minialex.tree import leaves

_SHARES = 8  # micro-batches in a batch, if the user does not say
_LOCAL = ("data", "initial", "shallow", "workers", "read_timeout")  # may differ between machines


def with_micro_batch(
    config: TrainConfig, batch_size: int, world: World, resumed: Path | None, least: int = 1
) -> TrainConfig:
    """`config` with micro-batches, if ranks share them; the default does not depend on how many.

    By default they have at least `least` images.
    Raises InputError for a micro-batch larger than a batch, and fewer micro-batches than ranks.
    """
    if config.micro_batch is None and world.launched:
        if resumed is not None:
            raise InputError(
                f"the run in {resumed} was started on one process, without micro-batches: resume "
                "it without mpirun"
            )
        size = max(-(-batch_size // _SHARES), min(least, batch_size))
        config = replace(config, micro_batch=size)
    if config.micro_batch is not None:
        if config.micro_batch > batch_size and resumed is None:  # earlier versions allowed it
            raise InputError(
                f"`micro_batch` is {config.micro_batch}, but a batch has only {batch_size} images: "
                "choose a smaller `micro_batch`, or a larger `batch_size`"
            )
        count = -(-batch_size // config.micro_batch)
        if batch_size < world.size:
            raise InputError(
                f"{world.size} processes cannot share a batch of {batch_size} "
                f"image{'s' * (batch_size != 1)}: choose a larger `batch_size`, or fewer processes"
            )
        if count < world.size:
            raise InputError(
                f"{world.size} processes cannot share a batch of {batch_size} images in {count} "
                f"micro-batches of {config.micro_batch}: choose a smaller `micro_batch`, such as "
                f"{max(1, batch_size // world.size)}, or fewer processes"
            )
    return config


def require_same(world: World, config: TrainConfig, devices: Devices, splits: Splits) -> None:
    """Raise InputError, on all ranks, if they differ in what they train, or share a device."""
    if world.size == 1:
        return
    settings = {k: v for k, v in config.settings().items() if k not in _LOCAL}
    own: dict[str, Any] = {
        "version of minialex": __version__,
        "images": fingerprint(splits) or (len(splits.train), len(splits.val)),
        "backend": devices.name,
        "precision": devices.precision.name,
        **settings,
    }
    every = world.gather(own)
    for rank, other in enumerate(every):
        for what, value in other.items():
            if value != every[0][what]:
                values = "" if what == "images" else f" ({value}, not {every[0][what]})"
                raise InputError(
                    f"{world.name_of(rank)} has other {what} than {world.name_of(0)}{values}: all "
                    "must train the same"
                )
    taken: dict[tuple[str, str], int] = {}
    own_devices = {name: b.device for b in devices.backends if (name := b.device_id()) is not None}
    for rank, (host, on_it) in enumerate(world.gather((world.host, own_devices))):
        for name, number in on_it.items():
            if (host, name) in taken:
                raise InputError(
                    f"ranks {taken[host, name]} and {rank} both use device {number} of {host}: "
                    "start one process for each device, or name other devices"
                )
            taken[host, name] = rank


def require_same_start(world: World, state: State, devices: Devices) -> None:
    """Raise InputError, on all ranks, if they do not start from the same state of the run.

    Each has read its own copy of the weights, or of the run folder.
    """
    if world.size == 1:
        return
    digest = hashlib.blake2b(digest_size=16)
    for tree in (state.params, *state.slots.values()):
        for layer, name, value in leaves(tree):
            digest.update(f"{layer}.{name}".encode())
            digest.update(np.ascontiguousarray(devices.to_numpy(value)).tobytes())
    own = (state.step, state.epoch, state.position, digest.hexdigest())
    every = world.gather(own)
    for rank, other in enumerate(every):
        if other != every[0]:
            steps = f" (step {other[0]}, not {every[0][0]})" * (other[0] != every[0][0])
            raise InputError(
                f"{world.name_of(rank)} has other weights than {world.name_of(0)}{steps}: copy the "
                "run folder, or the file to start from, to all machines"
            )
