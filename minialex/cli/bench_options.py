"""Which options of `minialex bench` each of its measurements uses; the others are refused."""

from collections.abc import Mapping
from typing import Any

from minialex.errors import InputError

_ON = ("--backend", "--devices", "--precision", "--threads")
_NETWORK = ("MODEL", "--option", "--batch-size", "--rounds", *_ON)
_USED: dict[str, tuple[str, ...]] = {  # by the option that chooses the measurement
    "--suite": ("--checks", "--parts", "--data", "--minutes"),
    "--accuracy": ("--data", "--minutes", "--seeds", "--from", "--threads"),
    "--fine-tune": ("--data", "--from", "--rounds", "--threads"),
    "--ranks": ("--latency", "--bandwidth", *_NETWORK),
    "--from": (*_NETWORK, "--data", "--inference", "--compare"),
    "--data": ("--size", "--workers", "--rounds", "--compare"),
    "": (*_NETWORK, "--inference", "--compare"),
}


def refuse_without_effect(given: Mapping[str, Any]) -> None:
    """Raise InputError for an option that the measurement ignores.

    `given` has a value other than None for each option of the command line that was given. That
    --inference, --from and --data fit together has been checked.
    """
    chosen = [name for name, value in given.items() if value is not None]
    kind = next(one for one in _USED if one in chosen or not one)
    for name in chosen:
        if name == kind or name in _USED[kind]:
            continue
        needed = [one for one, used in _USED.items() if one and name in used]
        if kind:
            raise InputError(f"{name} has no effect with {kind}: leave out one")
        raise InputError(f"{name} has no effect here: leave it out, or add {' or '.join(needed)}")
