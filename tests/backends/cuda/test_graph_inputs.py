"""A captured step's inputs: copied to fixed addresses while earlier steps run."""

import numpy as np
import pytest

from minialex import backends
from minialex.backends.cuda.graph import Field, Inputs

FIELDS = {
    "images": Field((4, 3), "uint8"),
    "labels": Field((4,), "int64"),
    "step": Field((1,), "uint32"),
}


def given(b, step: int, pinned: bool) -> dict:
    """The values of a step, with images in memory like the loader's or in any other."""
    images = b.host_empty((8, 3), "uint8") if pinned else np.empty((8, 3), np.uint8)
    images[...] = np.arange(24).reshape(8, 3) + step
    return {"images": images[4:], "labels": np.full(4, step), "step": np.array([step], "uint32")}


def seen_by_steps(b, pinned: bool) -> list:
    """What steps find, all given before the host waits; nobody else keeps the host's arrays."""
    inputs, copies = Inputs(b.stream, FIELDS), []
    for step in range(6):
        inputs.give(given(b, step, pinned))
        copies.append({name: b.stream.empty(x.shape, x.dtype) for name, x in inputs.arrays.items()})
        for name, x in inputs.arrays.items():
            copies[-1][name].data.copy_from_device_async(x.data, x.nbytes)
    return [{name: x.get() for name, x in copy.items()} for copy in copies]


def assert_own_values(b, pinned: bool) -> None:
    for step, seen in enumerate(seen_by_steps(b, pinned)):
        for name, wanted in given(b, step, False).items():
            np.testing.assert_array_equal(seen[name], wanted, err_msg=f"{name} of step {step}")


@pytest.mark.parametrize("pinned", [True, False])
def test_each_step_sees_its_own_values(pinned):
    assert_own_values(backends.get("cupy"), pinned)


def test_pinned_images_are_not_copied_on_the_host():
    b = backends.get("cupy")
    inputs = Inputs(b.stream, FIELDS)
    for pinned, count in ((True, 2), (False, 1)):
        values = given(b, 0, pinned)
        pieces = inputs._pieces(0, values)
        assert len(pieces) == count
        assert (pieces[0][1] == values["images"].ctypes.data) == pinned
    strided = {**values, "images": b.host_empty((4, 6), "uint8")[:, ::2]}
    assert len(inputs._pieces(0, strided)) == 1


@pytest.mark.standin
@pytest.mark.parametrize("mistake", ["forgotten sources", "pinned block refilled early"])
def test_memory_that_is_reused_early_is_caught(monkeypatch, mistake):
    b, pinned = backends.get("cupy"), mistake == "forgotten sources"
    pieces = Inputs._pieces

    def mistaken(self, turn, values):
        if pinned:
            found = pieces(self, turn, values)
            self._sources[turn] = []
            return found
        return pieces(self, 0, values)

    monkeypatch.setattr(Inputs, "_pieces", mistaken)
    with pytest.raises(AssertionError):
        assert_own_values(b, pinned)


@pytest.mark.parametrize("pinned", [True, False])
def test_pinned_memory_is_kept_while_it_is_copied(pinned):
    """The copy goes on after the call, and CuPy's pool would give the memory to another array."""
    b = backends.get("cupy")
    host = b.host_empty((4, 3), "uint8") if pinned else np.empty((4, 3), np.uint8)
    host[...] = 7
    found = b.asarray(host)
    assert any(kept is host for kept, _ in b.stream._in_flight) == pinned
    b.stream.synchronize()
    assert not b.stream._in_flight
    np.testing.assert_array_equal(found.get(), host)
