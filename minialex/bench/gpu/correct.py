"""The ops compared with float64 before anything is timed."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from minialex import backends
from minialex.backends.cuda import device as cuda_device
from minialex.testing.contract import compare_op
from minialex.testing.problems import OPS

# relative errors that a precision explains, if the inputs are exact in it
_LIMITS = {"fp32": 1e-5, "tf32": 4e-3, "fp16": 4e-3, "bf16": 3e-2}


class Lost(RuntimeError):
    """The device refuses all further work of this process, as after an illegal memory access."""


def compared(way: str | None = None) -> list[str]:
    """The ops to compare, in order; with `way`, a value of `convolution_by`, the convolutions."""
    every = (*OPS, "layers")
    return [op for op in every if way is None or op.startswith(("convolution", "layers"))]


def ops(
    precision: str,
    way: str | None = None,
    before: Sequence[dict[str, Any]] = (),
    timed_out: bool = False,
) -> Iterator[dict[str, Any]]:
    """A row for every op of `compared`.

    The rows `before` come first, and their ops are not compared again; if the process that found
    them has `timed_out`, the op that it stood at comes last. Raises AssertionError at the end if an
    op is wrong, and `Lost` at once if the device has been lost.
    """
    b: Any = backends.get("cupy", 0, precision)
    if way is not None:
        if not b.has_warpgroup_products:
            return
        b.convolution_by = way
    rows = list(before)
    yield from before
    done = {row["op"] for row in before}
    waiting = [op for op in compared(way) if op not in done]
    if timed_out:
        waiting = waiting[1:] + waiting[:1]
    for op in waiting:
        try:
            if op == "layers":
                errors = correctness(precision, way).items()
                passed, detail = True, ", ".join(f"{name} {error}" for name, error in errors)
            else:
                dtype = b.compute_dtype("float32")
                passed, detail = compare_op(b, op, dtype, _LIMITS[precision])
        except Exception as error:  # the other ops are still compared
            passed, detail = False, f"{type(error).__name__}: {error}"[:300]
        rows.append({"op": op, "right": passed, "detail": detail})
        yield rows[-1]
        if not passed:
            _require_device(b, op)
    wrong = [f"{row['op']}: {row['detail']}" for row in rows if not row["right"]]
    assert not wrong, "; ".join(wrong)


def _require_device(b: Any, op: str) -> None:
    try:
        b.synchronize()
    except Exception as error:
        raise Lost(f"after {op}: {error}") from None


def correctness(precision: str, way: str | None = None) -> dict[str, str]:
    """Relative errors of the forward pass and both gradients, on random inputs.

    `way` is a value of `CupyBackend.convolution_by`, None the default. Raises AssertionError for an
    error larger than the precision explains.
    """
    b: Any = backends.get("cupy", 0, precision)
    generic = backends.get("numpy")
    if way is not None:
        b.convolution_by = way
    draw, dtype, found = np.random.default_rng(0), b.compute_dtype("float32"), {}
    limit = _LIMITS[precision]
    # one with more tiles than multiprocessors: some compute several
    many = ("many tiles", 48, 48, 3, 1, 1, 1)
    heights = {many[0]: 12 * cuda_device.multiprocessors(b.device)}
    for name, c, k, kernel, stride, pad, groups in (*_SMALL, many):
        geometry = ((stride, stride), ((pad, pad), (pad, pad)), groups)
        x = draw.normal(size=(2, heights.get(name, 15), 14, c))
        weight = draw.normal(size=(kernel, kernel, c // groups, k))
        y = generic.convolution(x, weight, None, *geometry)
        dy = draw.normal(size=y.shape)
        ours = [b.asarray(a, dtype) for a in (x, weight, dy)]
        pairs = {
            "forward": (b.convolution(ours[0], ours[1], None, *geometry), y),
            "input gradient": (
                b.convolution_input_gradient(ours[2], ours[1], x.shape, *geometry),
                generic.convolution_input_gradient(dy, weight, x.shape, *geometry),
            ),
            "weight gradient": (
                b.convolution_weight_gradient(ours[0], ours[2], (kernel, kernel), *geometry),
                generic.convolution_weight_gradient(x, dy, (kernel, kernel), *geometry),
            ),
        }
        for what, (found_array, wanted) in pairs.items():
            error = np.linalg.norm(b.to_numpy(found_array).astype(float) - wanted)
            error /= np.linalg.norm(wanted)
            assert error < limit, f"{name} {what}: off by {error:.2e}, allowed {limit:.0e}"
            found[f"{name} {what}"] = f"{error:.1e}"
    return found


# like the paper's layers, small: (name, C, K, kernel, stride, pad, groups)
_SMALL = (
    ("conv1", 3, 96, 11, 4, 0, 1),
    ("conv2", 96, 256, 5, 1, 2, 2),
    ("conv3", 64, 384, 3, 1, 1, 1),
    ("odd", 10, 6, 3, 2, 1, 2),
)
