"""`minialex check` passes here, covers every op and layer, and finds planted bugs."""

import inspect

import numpy as np
import pytest
from helpers.standard import Strict

from minialex import backends, layers
from minialex.backends import Backend, GenericBackend
from minialex.errors import InputError
from minialex.testing import self_test
from minialex.testing.contract import compare_op
from minialex.testing.problems import OPS, difference

# What a layer may call; the rest of Backend is input, output, and parts of these.
NOT_OPS = {"asarray", "to_numpy", "sgd_updates"} | {
    *(
        "with_precision",
        "with_threads",
        "with_fixed_sums",
        "for_inference",
        "compute_dtype",
        "cast_params",
    ),
    *("memory", "peak_memory", "remarks"),
    *("with_own_stream", "device_context", "synchronize", "receive", "record", "wait"),
    *(
        "device_count",
        "device_id",
        "link_key",
        "link",
        "record_stream",
        "describe",
        "compile",
        "crops_at",
        "channels_to_copy",
        "input_blocks",
        "host_empty",
    ),
    "convolution_workspace",
}


def failures(backend):
    return [result for result in self_test.run_checks(backend) if result.passed is not True]


def test_all_backends_here_pass():
    results = list(self_test.run_checks())
    assert [result for result in results if result.passed is False] == []
    for name in backends.available():
        assert any(result.name.startswith(f"{name}: ") for result in results)


def test_another_array_library_passes():
    import array_api_strict

    assert failures(GenericBackend("strict", array_api_strict)) == []


@pytest.mark.parametrize("op", ["all_finite", "sum_of_squares", "softmax"])
def test_a_backend_that_reads_only_its_own_arrays_passes(op):
    assert compare_op(Strict(), op, "float32")[0]


def test_every_op_and_every_layer_is_checked():
    ops = {name for name, _ in inspect.getmembers(Backend, callable) if not name.startswith("_")}
    assert set(OPS) == ops - NOT_OPS
    kinds = {getattr(layers, name) for name in layers.__all__} - {
        layers.InitialDraw,
        layers.Layer,
        layers.Mode,
    }
    assert {type(layer) for layer, _ in self_test.LAYERS} == kinds


def wrong(value):
    """The same with its last number off by a thousandth, or changed."""
    if isinstance(value, bool):
        return not value
    array = np.array(value)
    last = array.reshape(-1)[-1:]
    if array.dtype.kind == "f":
        last += 1e-3 * np.max(np.abs(array)) + 1e-12
    else:
        last ^= last.dtype.type(1)
    return array


def planted(op, output):
    """A backend in which one output of one op is wrong."""

    class Planted(GenericBackend):
        pass

    def broken(self, *arguments, **options):
        results = getattr(GenericBackend, op)(self, *arguments, **options)
        if not isinstance(results, tuple):
            return wrong(results)
        return tuple(wrong(r) if i == output else r for i, r in enumerate(results))

    setattr(Planted, op, broken)
    return Planted("planted", np)


OUTPUTS = {
    "max_pool": 2,
    "batch_statistics": 2,
    "batch_norm_gradient": 3,
    "softmax_cross_entropy": 2,
    "soft_cross_entropy": 2,
    "hinge": 2,
    "sgd_update": 2,
    "adam_update": 3,
}


@pytest.mark.parametrize("op", sorted(OPS))
def test_a_planted_bug_is_found(op):
    for output in range(OUTPUTS.get(op, 1)):
        for dtype in ("float64", "float32"):
            passed, detail = compare_op(planted(op, output), op, dtype)
            assert passed is False
            assert detail


def test_a_planted_bug_is_named():
    """Found by the op's check, and by the layers and steps that use it."""
    found = failures(planted("tanh_gradient", 0))
    names = {result.name for result in found}
    assert {"planted: tanh_gradient, float64", "planted: tanh_gradient, float32"} <= names
    assert all("anh" in result.name and result.detail for result in found)
    assert len(found) == 3


def test_a_wrong_gradient_of_a_layer_is_found():
    class Half(layers.Tanh):
        def backward(self, b, params, saved, dy, *, input_gradient=True):
            dx, grads = super().backward(b, params, saved, dy)
            return 0.5 * dx, grads

    passed, detail = self_test.gradient(GenericBackend("generic", np), Half(), (4,))
    assert not passed
    assert "backward gives" in detail


def test_an_op_that_raises_or_changes_the_shape_fails():
    class Raising(GenericBackend):
        def softmax(self, logits):
            raise ZeroDivisionError("planted")

        def hinge(self, scores, labels, margin, count=None, dloss=1.0):
            loss, dscores = super().hinge(scores, labels, margin, count, dloss)
            return loss, dscores[None]

    details = {result.name: result.detail for result in failures(Raising("raising", np))}
    assert details["raising: softmax, float32"] == "raised ZeroDivisionError: planted"
    assert "shape" in details["raising: hinge, float64"]
    assert len(details) == 4


def test_wrong_random_numbers_are_found(monkeypatch):
    monkeypatch.setattr(self_test.rng, "_WEYL_0", 1)
    assert self_test.philox().passed is False


def test_an_unavailable_backend_is_skipped_unless_named(monkeypatch):
    def factory(device):
        raise InputError("no such device here")

    monkeypatch.setitem(backends._registered, "absent", factory)
    monkeypatch.setattr(backends, "available", lambda: ("absent",))
    [result] = [p for p in self_test.run_checks() if p.name.startswith("absent")]
    assert result.passed is None
    assert "no such device" in result.detail
    with pytest.raises(InputError, match="no such device"):
        list(self_test.run_checks("absent"))


def test_nan_counts_as_a_difference():
    assert difference(np.array([1.0, np.nan]), np.array([1.0, 2.0]))[0] == np.inf
    assert difference(np.array([np.inf]), np.array([1.0]))[0] == np.inf
