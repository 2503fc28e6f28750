"""Checks that a backend keeps the contract: its names, signatures, and every op.

For authors of backends: `check_backend(MyBackend())` in a test of theirs.
"""

import inspect
from collections.abc import Callable

import numpy as np

from minialex.backends.base import Backend
from minialex.testing.problems import GENERIC, OPS, Problem, difference
from minialex.testing.tolerance import require

PROBLEMS = 6  # for each op and dtype
# called only by the CUDA backend's compiled step
_OF_COMPILED_STEPS = {
    *("keep_loss", "refresh_params", "captured_updates", "captured_adam_updates"),
    *("captured_average", "next_loss_scale", "find_bad", "merge_flag"),
}


def check_backend(b: Backend) -> None:
    """Raise AssertionError unless `b` has the contract's names and signatures, and correct ops."""
    check_names(b)
    check_signatures(type(b))
    for op in OPS:
        for dtype in ("float64", "float32"):
            passed, detail = compare_op(b, op, dtype)
            require(passed, f"{b.name}: {op}, {dtype}: {detail}")


def check_names(b: Backend) -> None:
    """Raise AssertionError for a public name of `b` that `Backend` does not declare."""
    names = {name for name in (*dir(type(b)), *vars(b)) if not name.startswith("_")}
    more = sorted(names - declared() - _OF_COMPILED_STEPS)
    require(not more, f"{b.name}: {', '.join(more)} not declared in Backend: make it private")


def check_signatures(backend: type[Backend]) -> None:
    """Raise AssertionError for a method whose arguments or defaults are not the contract's."""
    for name, method in inspect.getmembers(Backend, inspect.isfunction):
        if name.startswith("_"):
            continue
        expected, found = (_arguments(f) for f in (method, getattr(backend, name)))
        require(found == expected, f"{backend.__name__}.{name} takes {found}, expected {expected}")


def declared() -> set[str]:
    """The public names of the contract."""
    names = {name for c in Backend.__mro__ for name in inspect.get_annotations(c)}
    return {name for name in names | set(dir(Backend)) if not name.startswith("_")}


def _arguments(method: Callable) -> list[tuple[str, object]]:
    return [(p.name, p.default) for p in inspect.signature(method).parameters.values()]


def compare_op(b: Backend, op: str, dtype: str, tolerance: float | None = None) -> tuple[bool, str]:
    """Compare an op on random problems, computed in `dtype`, with the generic op in float64.

    The default tolerance is 64 times the precision of `dtype`.
    """
    largest = 0.0
    if tolerance is None:
        tolerance = 64 * float(np.finfo(dtype).eps)
    for case in range(PROBLEMS):
        found = OPS[op](Problem(b, case, dtype, dtype))
        expected = OPS[op](Problem(GENERIC, case, dtype, "float64"))
        for output, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
            host = ours if isinstance(ours, np.ndarray) else b.to_numpy(ours)  # or a plain number's
            error, where = difference(host, GENERIC.to_numpy(theirs))
            if not error <= tolerance:
                return False, f"output {output} of problem {case} differs: {where}"
            largest = max(largest, error)
    apart = f"at most {largest:.0e} apart" if largest else "the same bits"
    return True, f"{PROBLEMS} problems, {apart}"
