"""Every backend follows the contract, and the check finds violations."""

import pytest
from array_api_compat import numpy as host

from minialex.backends import GenericBackend
from minialex.testing import check_backend, check_names, check_signatures


def test_every_public_name_is_declared(b):
    check_names(b)


def test_every_signature_matches_the_contract(b):
    check_signatures(type(b))


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
