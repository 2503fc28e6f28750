"""python -m minialex.bench.gpu.observed WHAT PRECISION MODEL BATCH: run by NVIDIA's tools.

WHAT is "ops", all ops and a captured step as compute-sanitizer checks them, or "step", one step
op by op as ncu profiles it.
"""

import sys
from typing import Any

from minialex import backends, models
from minialex.bench.gpu import correct, steps, whole
from minialex.bench.gpu.plan import Plan
from minialex.parallel import SingleDevice


def ops(precision: str, model: str, batch: int) -> None:
    """Every op, and steps of a network op by op and captured."""
    list(correct.ops(precision))
    whole.same_bits(precision, Plan(model=model, few=batch))


def step(precision: str, model: str, batch: int) -> None:
    """One step op by op."""
    b: Any = backends.get("cupy", 0, precision)
    steps.Resident(model, SingleDevice(models.get(model).network, b), batch).step()
    b.synchronize()


WHAT = {"ops": ops, "step": step}


def main() -> None:
    """Run what the arguments name."""
    what, precision, model, batch = sys.argv[1:]
    WHAT[what](precision, model, int(batch))


if __name__ == "__main__":
    main()
