"""Every backend follows the contract, and the check finds violations."""

import pytest
from array_api_compat import numpy as host

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


def test_a_third_party_backend_is_checked_in_one_call():
    check_backend(GenericBackend("mine", host))


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
        check_backend(backend("mine", host))
