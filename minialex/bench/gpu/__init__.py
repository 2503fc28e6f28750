"""The GPU suite: checks and times every kernel and the training step of the paper's network.

`run_suite(out)` checks the kernels against the generic backend first and times only correct ones.
It writes JSON and Markdown after each part, so that an interrupted run keeps what it has measured.
"""

import gc
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from minialex.backends.cuda.backend import CupyBackend
from minialex.backends.cuda.device import library
from minialex.bench.gpu import (
    checks,
    correct,
    memory_bound,
    products,
    pytorch,
    steps,
    tables,
    whole,
)
from minialex.bench.gpu.plan import Plan, rates
from minialex.utils import atomic

__all__ = ["Plan", "checks", "run_suite"]


def run_suite(out: Path | str, plan: Plan | None = None) -> dict[str, Any]:
    """Run all parts; -> {part: result}, also written to `out` as JSON and as Markdown beside it.

    A part that raises becomes {"failed": message} and the others continue; parts for which there
    was no time are listed under "left out".
    """
    plan, path, begun = plan or Plan(), Path(out), time.monotonic()
    found: dict[str, Any] = {"suite": "gpu", "device": checks.environment()}
    found |= {"seconds": {}, "left out": []}
    for name, measure in _parts(plan, found):
        start = time.monotonic()
        if start - begun > plan.budget:
            found["left out"].append(name)
            continue
        try:
            found[name] = measure()
        except Exception as error:  # one failure does not cost the other parts
            found[name] = {"failed": f"{type(error).__name__}: {error}"[:2000]}
        found["seconds"][name] = round(time.monotonic() - start, 1)
        _release()
        _write(path, found)
    _write(path, found)
    return found


def _release() -> None:
    """Free the device's memory for the next part."""
    gc.collect()
    library().get_default_memory_pool().free_all_blocks()
    pytorch.release()


def _write(path: Path, found: dict[str, Any]) -> None:
    atomic.write_json(path, found)
    atomic.write_text(path.with_suffix(".md"), tables.markdown(found))


def _parts(plan: Plan, found: dict[str, Any]) -> Iterator[tuple[str, Callable[[], Any]]]:
    """(name, function) in order of importance; kernels that are wrong are not timed."""

    def right(what: str) -> bool:
        return "failed" not in found.get(f"correct {what}", {"failed": "not checked"})

    for p in plan.precisions:
        yield f"correct {p}", partial(correct.correctness, p)
        if right(p):
            if CupyBackend(0, p).has_warpgroup_products:
                yield f"correct {p} wgmma", partial(correct.correctness, p, "wgmma")
            yield f"rates {p}", partial(rates, p, plan)
            for n in plan.batches:
                yield f"steps {p} {n}", partial(steps.steps, p, n, plan, right(f"{p} wgmma"))
    good = [p for p in plan.precisions if right(p)]
    for p in good:
        yield f"end to end {p}", partial(whole.end_to_end, p, max(plan.batches), plan)
        measured = found.get(f"rates {p}", {})
        if "operations_per_second" in measured:
            yield (
                f"products {p}",
                partial(products.products, p, measured, plan, right(f"{p} wgmma")),
            )
            yield f"memory-bound {p}", partial(memory_bound.memory_bound, p, measured, plan)
        yield f"inference {p}", partial(steps.inference, p, plan)
    for p in good:  # compiling takes PyTorch a minute each time
        for n in plan.batches:
            yield f"compiled {p} {n}", partial(steps.compiled, p, n, plan)
    if plan.checks:
        yield "tests", checks.tests
        for precision in checks.PRECISIONS:
            yield f"overfit {precision}", partial(checks.overfit, precision)
        yield "overfit two towers", partial(checks.overfit, "fp32", towers=True)
        for tool in checks.SANITIZERS:
            yield f"sanitizer {tool}", partial(checks.sanitizer, tool)
    if plan.data is not None:
        for p in plan.train_precisions:
            yield f"training {p}", partial(checks.training, p, plan)
