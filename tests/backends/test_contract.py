"""Every backend follows the contract, and the check finds violations."""

import numpy as np
import pytest

from minialex.backends import GenericBackend
from minialex.testing import check_backend, check_names, check_signatures
from minialex.testing.contract import PROBLEMS, compare_op
from minialex.testing.problems import GENERIC, OPS, Problem


def test_every_public_name_is_declared(b):
    check_names(b)


def test_every_signature_matches_the_contract(b):
    check_signatures(type(b))


@pytest.mark.parametrize("op", sorted(OPS))
def test_every_op_matches_the_generic_one(b, op):
    """Six problems each; ops for arrays of any shape get one to five axes."""
    for dtype in ("float64", "float32"):
        passed, detail = compare_op(b, op, dtype)
        assert passed, f"{dtype}: {detail}"


@pytest.mark.parametrize("least", [0, 1, 2])
def test_problems_have_every_number_of_axes(least):
    shapes = [Problem(GENERIC, case).shape(9, least) for case in range(PROBLEMS)]
    assert {len(shape) for shape in shapes} == set(range(least, 6))


# the axes of an op's first array, where it takes fewer than all
AXES = {
    **{op: {2, 3, 4, 5} for op in OPS if op.startswith(("dense", "dropout"))},
    **{op: {4} for op in OPS if "convolution" in op or "pool" in op or "spatial" in op},
    **{op: {4} for op in ("crops", "scale_channels")},
    **{op: {2} for op in ("softmax_cross_entropy", "soft_cross_entropy", "hinge")},
    "dense_input_gradient": {2},
}


@pytest.mark.parametrize("op", sorted(OPS))
def test_problems_of_an_op_have_every_number_of_axes(op):
    """Also those of ops to come, unless the table says that the op takes fewer."""
    seen = set()

    class Spy(GenericBackend):
        def __getattribute__(self, name):
            found = super().__getattribute__(name)
            if name != op:
                return found

            def called(first, *more, **options):
                seen.add(len(_shape(first)))
                return found(first, *more, **options)

            return called

    for case in range(PROBLEMS):
        OPS[op](Problem(Spy("generic", np), case))
    assert seen - {0} == AXES.get(op, {1, 2, 3, 4, 5})


def _shape(argument):
    """Of an array, of the first of several, or a shape itself."""
    if isinstance(argument, list | tuple) and not isinstance(argument[0], int):
        argument = argument[0]
    return getattr(argument, "shape", argument)


def test_a_third_party_backend_is_checked_in_one_call():
    check_backend(GenericBackend("mine", np))


class _Undeclared(GenericBackend):
    def warm_up(self):
        pass


class _OtherDefault(GenericBackend):
    def dense(self, x, weight, bias, relu=True):
        return super().dense(x, weight, bias, relu)


class _WrongOp(GenericBackend):
    def tanh_gradient(self, dy, y):
        return dy * (1.0 + y * y)


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        (_Undeclared, "warm_up not declared in Backend"),
        (_OtherDefault, "_OtherDefault.dense takes"),
        (_WrongOp, "tanh_gradient, float64: output 0"),
    ],
)
def test_a_planted_bug_is_found(backend, message):
    with pytest.raises(AssertionError, match=message):
        check_backend(backend("mine", np))
