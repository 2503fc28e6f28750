"""Diagnostics: layer statistics at the start, plateaus, NaN and Inf."""

from pathlib import Path

import numpy as np

from minialex.backends.base import Array, Backend
from minialex.data.loading.loader import Batch
from minialex.errors import TrainingError
from minialex.layers import Mode
from minialex.losses import Loss
from minialex.network import Network
from minialex.parallel import Devices
from minialex.training.recovery import ATTEMPTS
from minialex.tree import Tree
from minialex.utils.progress import loss_text

SOON = 500  # steps after which a network should have started to learn


class NotFinite(TrainingError):
    """A loss or a parameter is NaN or infinite; the state can no longer be used."""

    attempts = ATTEMPTS


def layer_statistics(
    b: Backend, network: Network, params: Tree, loss: Loss, x: Array, labels: Array
) -> tuple[str, float]:
    """Each layer's activation and gradient scale before the first step, and the loss.

    Returns a small table and the loss; x (N, H, W, C) are a few images, preprocessed. Nothing is
    dropped, but batch normalisation uses these images: before training, its running statistics
    say nothing.
    """
    outputs, gradients, saved = {}, {}, []
    y = x
    for stage in network.stages(fused=False):
        y, kept = stage.forward(b, params, y, Mode(training=bool(stage.layer.statistics)))
        saved.append((stage, kept))
        numbers = _on_host(b, y)
        outputs[stage.name] = (float(numbers.mean()), float(numbers.std()))
    value, dy = loss(b, y, labels)
    between = float(_on_host(b, y).std(axis=0).mean())
    while saved:
        stage, kept = saved.pop()
        gradients[stage.name] = float(_on_host(b, dy).std())
        dy, _ = stage.backward(b, params, kept, dy, input_gradient=stage.index > 0)
    lines = ["layer          mean        std   gradient std"]
    for name, (mean, std) in outputs.items():
        lines.append(f"{name:10} {mean:8.3g}   {std:8.3g}   {gradients[name]:12.3g}")
    lines.append(f"scores differ between images by {between:.3g} (standard deviation)")
    return "\n".join(lines), float(b.to_numpy(value))


def _on_host(b: Backend, x: Array) -> np.ndarray:
    """The array on the host, at least in float32 so that sums of half-precision values fit."""
    numbers = b.to_numpy(x)
    return numbers.astype(np.promote_types(numbers.dtype, np.float32), copy=False)


def start_verdict(value: float, chance: float, pretrained: bool = False) -> str:
    """One sentence that compares the initial loss with random guessing.

    With a `pretrained` network, any loss is fine.
    """
    text = f"initial loss {loss_text(value)} (random guessing: {chance:.3f})"
    if pretrained:
        return text
    if not np.isfinite(value) or value > 1.5 * chance + 0.5:
        return (
            f"{text}: far too high. The initial scores are too large: check that images are in "
            "0..255 with the mean subtracted, or start from smaller weights"
        )
    if value < 0.5 * chance:
        return f"{text}: lower than an untrained network can reach, so the labels may leak"
    return f"{text}: ok"


def plateau_advice(losses: list[float], chance: float, steps: int, what: str) -> str | None:
    """A sentence if the loss is still at that of random guessing, else None; `what` to try."""
    if steps < SOON or not losses or losses[-1] < 0.97 * chance:
        return None
    return (
        f"not learning yet: after {steps} steps the loss is {losses[-1]:.3f} (random guessing: "
        f"{chance:.3f}). Some networks need some thousand steps to start; if the loss does not "
        f"move, {what}"
    )


def non_finite(
    b: Backend,
    network: Network,
    params: Tree,
    x: Array,
    batch: Batch,
    mode: Mode,
    folder: Path,
) -> NotFinite:
    """The error for a NaN or Inf loss; names the layer and step, and saves the batch."""
    path = folder / f"nonfinite-step-{mode.step}.npz"
    try:
        np.savez(path, images=batch.images, labels=batch.labels, positions=batch.positions)
        kept = f"the batch is in {path}"
    except OSError as error:  # of a full disk: the run may go on all the same
        path.unlink(missing_ok=True)
        kept = f"the batch could not be kept ({error.strerror or error})"
    where = _first_bad(b, network, params, x, mode)
    return NotFinite(f"step {mode.step}: {where}; {kept}")


def bad_parameter(b: Devices | Backend, params: Tree) -> str | None:
    """The first "layer.parameter" that contains NaN or Inf, or None."""
    for layer, of_layer in params.items():
        for name, value in of_layer.items():
            if not b.all_finite(value):
                return f"{layer}.{name}"
    return None


def _first_bad(b: Backend, network: Network, params: Tree, x: Array, mode: Mode) -> str:
    parameter = bad_parameter(b, params)
    if parameter is not None:
        return f"{parameter} is not finite after the update of step {mode.step - 1}"
    params = b.cast_params(params)  # the ones above may be the float32 originals
    with np.errstate(all="ignore"):
        for stage in network.stages(mode.training, fused=False):
            x, _ = stage.forward(b, params, x, mode)
            if not b.all_finite(x):
                return f"the output of layer {stage.name} is the first that is not finite"
    return "the loss is not finite although every layer's output is"
