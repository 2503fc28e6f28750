"""The parts of the GPU suite, in order of importance, each with the seconds that it may take.

python -m minialex.bench.gpu lists them.
"""

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
from minialex.utils import table

Found = dict[str, Any]
# values of `convolution_by` that are compared with the default, and timed beside it, with the
# seconds of their comparison: the one with barriers is the one that may hang
CANDIDATES = {"wgmma": 60.0, "tma": 25.0}
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

    It starts only if the ops of `needs`, another part, are right. One that `continues` starts after
    the rows that `found` has of it.
    """

    name: str
    seconds: float
    run: Callable[[Plan, Found], Any]
    needs: str = ""
    continues: bool = False


def right(found: Found, name: str) -> bool:
    """Whether a part has found all ops of a training step to be right.

    If it did not end, those that it has not compared count as wrong.
    """
    part = found.get(name)
    rows = part.get("rows", []) if isinstance(part, dict) else part
    if not rows:
        return False
    wrong = {row["op"] for row in rows if not row["right"]}
    if isinstance(part, dict) and not part.get("complete"):
        _, _, *way = name.split()
        wrong |= {*correct.compared(*way)} - {row["op"] for row in rows}
    return not {op.split(",")[0] for op in wrong} & _OF_A_STEP


def every(plan: Plan) -> list[Part]:
    """All parts of a plan; those that answer most come first, in the first timed precision."""
    made = _correct(plan) + _speed(plan)
    if plan.checks:
        made += _checks(plan)
    if plan.data is not None:
        for p in plan.train_precisions:
            made.append(Part(f"training {p}", 600, _planned(checks.training, p)))
    first = {name: i for i, name in enumerate(_first(plan))}
    return sorted(made, key=lambda part: first.get(part.name, len(first)))


def _first(plan: Plan) -> list[str]:
    names = []
    for p in plan.precisions[:1]:
        names += [f"ops {p}", f"captured {p}", f"rates {p}"]
        names += [f"ops {p} {way}" for way in CANDIDATES]  # which the next parts time
        names += [f"steps {p} {n}" for n in plan.batches]
        names += [f"products {p}", f"memory-bound {p}"]
    return names


def _call(function: Callable, *arguments: Any) -> Callable[[Plan, Found], Any]:
    return lambda plan, found: function(*arguments)


def _planned(function: Callable, *arguments: Any) -> Callable[[Plan, Found], Any]:
    return lambda plan, found: function(*arguments, plan)


def _correct(plan: Plan) -> list[Part]:
    made = []
    for p in plan.checked:
        made.append(_ops(f"ops {p}", 90, p, None))
        if p in ("bf16", "fp16"):
            for way, seconds in CANDIDATES.items():
                made.append(_ops(f"ops {p} {way}", seconds, p, way))
    for p in (*plan.precisions, *(p for p in plan.checked if p == "fp16")):
        made.append(Part(f"captured {p}", 60, _planned(whole.same_bits, p), f"ops {p}"))
    if plan.checks:
        for p in checks.PRECISIONS:
            made.append(Part(f"overfit {p}", 60, _call(checks.overfit, p)))
    for p in plan.precisions:
        made.append(Part(f"photographs {p}", 60, _planned(checks.photographs, p)))
    return made


def _ops(name: str, seconds: float, precision: str, way: str | None) -> Part:
    def run(plan: Plan, found: Found) -> Any:
        before = found.get(name, {})  # of a process that has lost the device, or timed out
        return correct.ops(precision, way, before.get("rows", ()), "timed_out" in before)

    return Part(name, seconds, run, continues=True)


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
    made.append(Part("tests", 180, _planned(checks.tests)))
    return made


def _steps(precision: str, batch: int, plan: Plan, found: Found) -> Any:
    return steps.steps(precision, batch, plan, _candidates(precision, found))


def _products(precision: str, plan: Plan, found: Found) -> Any:
    others = _candidates(precision, found)
    return products.products(precision, _rates(precision, found), plan, others)


def _candidates(precision: str, found: Found) -> tuple[str, ...]:
    """Those that have been found right: others are not timed."""
    return tuple(way for way in CANDIDATES if right(found, f"ops {precision} {way}"))


def _memory_bound(precision: str, plan: Plan, found: Found) -> Any:
    return memory_bound.memory_bound(precision, _rates(precision, found), plan)


def _rates(precision: str, found: Found) -> dict[str, float]:
    """The measured rates, or none if that part failed."""
    measured = found.get(f"rates {precision}", {})
    return {} if "failed" in measured else measured


_SHOWS = {
    "ops": "every op against float64; small versions of the paper's layers",
    "ops wgmma": "the convolutions by warpgroup products",
    "ops tma": "those with a stride of 1 by `conv_tma.cu`",
    "captured": "four steps as a graph and op by op, of two towers too: the same bits",
    "overfit": "eight images memorised",
    "photographs": "30 steps on the images of `--data`: the loss must fall",
    "rates": "the speed of a large product and of a large copy",
    "steps": "images/s, alternating with PyTorch",
    "end to end": "from a packed data set",
    "products": "each product and its roofline",
    "memory-bound": "every other kernel and its minimum traffic",
    "inference": "images/s, alternating with PyTorch",
    "compiled": "a step of `torch.compile`, alternating with ours",
    "overfit two towers": "both towers on one GPU",
    "sanitizer": "compute-sanitizer, if it is installed",
    "profile": "ncu on the convolutions and normalisations, if it is installed",
    "tests": "`pytest -m gpu`, its most important tests for 150 seconds",
    "training": "10 epochs on the images of `--data`",
}


def listed(plan: Plan) -> str:
    """A table with a row for each kind of part."""
    kinds: dict[str, tuple[dict[str, None], float]] = {}
    variants = {*plan.checked, *plan.precisions, *plan.train_precisions, *checks.SANITIZERS}
    variants |= {str(batch) for batch in plan.batches}
    for part in every(plan):
        words = part.name.split()
        kind = " ".join(word for word in words if word not in variants)
        of_kind, _ = kinds.setdefault(kind, ({}, part.seconds))
        of_kind.update({word: None for word in words if word in variants})
    rows = [
        [f"`{kind}`", ", ".join(of_kind), _SHOWS[kind], f"{seconds:.0f}"]
        for kind, (of_kind, seconds) in kinds.items()
    ]
    return table.markdown(["part", "for", "what it shows", "seconds at most"], rows)
