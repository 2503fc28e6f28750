"""The parts of the GPU suite, in order of importance, each with the seconds that it may take."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from minialex.bench.gpu import (
    checks,
    correct,
    memory_bound,
    products,
    profile,
    steps,
    whole,
)
from minialex.bench.gpu.plan import Plan, rates

Found = dict[str, Any]
# the ops of a training step of the paper's network: others that are wrong do not stop its timing
_OF_A_STEP = {
    *("convolution", "convolution_input_gradient_relu", "convolution_parameter_gradients"),
    *("dense", "dense_input_gradient", "dense_weight_gradient", "dense_relu_dropout"),
    *("relu", "relu_gradient", "relu_dropout_gradient", "bias_gradient", "max_pool"),
    *("max_pool_gradient", "response_norm_pool", "response_norm_pool_gradient", "crops"),
    *("softmax_cross_entropy", "sgd_update", "layers"),
}


@dataclass(frozen=True)
class Part:
    """One part; `run(plan, found)` may use the results of earlier parts.

    It starts only if the ops of `needs`, another part, are right.
    """

    name: str
    seconds: float
    run: Callable[[Plan, Found], Any]
    needs: str = ""


def right(found: Found, name: str) -> bool:
    """Whether a part has found all ops of a training step to be right."""
    part = found.get(name)
    rows = part.get("rows", []) if isinstance(part, dict) else part
    if not rows or (isinstance(part, dict) and not part.get("complete")):
        return False
    wrong = {row["op"].split(",")[0] for row in rows if not row["right"]}
    return not wrong & _OF_A_STEP


def every(plan: Plan) -> list[Part]:
    """All parts of a plan."""
    made = _correct(plan) + _speed(plan)
    if plan.checks:
        made += _checks(plan)
    if plan.data is not None:
        for p in plan.train_precisions:
            made.append(Part(f"training {p}", 600, _planned(checks.training, p)))
    return made


def _call(function: Callable, *arguments: Any) -> Callable[[Plan, Found], Any]:
    return lambda plan, found: function(*arguments)


def _planned(function: Callable, *arguments: Any) -> Callable[[Plan, Found], Any]:
    return lambda plan, found: function(*arguments, plan)


def _correct(plan: Plan) -> list[Part]:
    made = []
    for p in plan.checked:
        made.append(Part(f"ops {p}", 90, _call(correct.ops, p)))
        if p in ("bf16", "fp16"):
            made.append(Part(f"ops {p} wgmma", 60, _call(correct.ops, p, "wgmma")))
    for p in plan.precisions:
        made.append(Part(f"captured {p}", 60, _planned(whole.same_bits, p), f"ops {p}"))
    if plan.checks:
        for p in checks.PRECISIONS:
            made.append(Part(f"overfit {p}", 60, _call(checks.overfit, p)))
    for p in plan.precisions:
        made.append(Part(f"photographs {p}", 60, _planned(checks.photographs, p)))
    return made


def _speed(plan: Plan) -> list[Part]:
    made = []
    for p in plan.precisions:
        made.append(Part(f"rates {p}", 45, _planned(rates, p)))
        for n in plan.batches:
            made.append(Part(f"steps {p} {n}", 90, partial(_steps, p, n), f"ops {p}"))
    for p in plan.precisions:
        whole_run = _planned(whole.end_to_end, p, max(plan.batches))
        made.append(Part(f"end to end {p}", 90, whole_run, f"ops {p}"))
        made.append(Part(f"products {p}", 90, partial(_products, p), f"ops {p}"))
        made.append(Part(f"memory-bound {p}", 90, partial(_memory_bound, p), f"ops {p}"))
        made.append(Part(f"inference {p}", 60, _planned(steps.inference, p)))
    for p in plan.precisions:  # compiling takes PyTorch a minute each time
        for n in plan.batches:
            made.append(Part(f"compiled {p} {n}", 150, _planned(steps.compiled, p, n)))
    return made


def _checks(plan: Plan) -> list[Part]:
    made = [Part("overfit two towers", 60, _call(checks.overfit, "fp32", True))]
    made += [Part(f"sanitizer {t}", 120, _call(checks.sanitizer, t)) for t in checks.SANITIZERS]
    made.append(Part("profile", 120, _call(profile.convolutions, plan)))
    made.append(Part("tests", 180, _call(checks.tests)))
    return made


def _steps(precision: str, batch: int, plan: Plan, found: Found) -> Any:
    return steps.steps(precision, batch, plan, right(found, f"ops {precision} wgmma"))


def _products(precision: str, plan: Plan, found: Found) -> Any:
    wgmma = right(found, f"ops {precision} wgmma")
    return products.products(precision, _rates(precision, found), plan, wgmma)


def _memory_bound(precision: str, plan: Plan, found: Found) -> Any:
    return memory_bound.memory_bound(precision, _rates(precision, found), plan)


def _rates(precision: str, found: Found) -> dict[str, float]:
    """The measured rates, or none if that part failed."""
    measured = found.get(f"rates {precision}", {})
    return {} if "failed" in measured else measured
