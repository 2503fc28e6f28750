"""Threads that help with a kernel: every item is computed once, and late helpers change nothing."""

import threading

import numpy as np
import pytest
from numba import njit
from numba.core.errors import NumbaError
from numba.core.runtime import _nrt_python as nrt

from minialex import backends
from minialex.backends.numba import few_images
from minialex.backends.numba import team as team_module
from minialex.backends.numba.team import (
    Team,
    _finished,
    _Pace,
    _yield,
    await_all,
    claim_item,
    finish_item,
)
from minialex.utils.jit import compiled

LONG = 10  # seconds, that only a failing test waits


@compiled
def _squares(counts, worker, x, y, who):
    """y = x², then x = y + 1 in another order; an item of the first phase is needed by all.

    The caller waits for help, if it comes soon, and each helper is slow with its first item.
    """
    tries, slow = 0, worker > 0
    while worker == 0 and tries < 20_000 and _finished(counts[0], 0) == 0:
        _yield()
        tries += 1
    item = claim_item(counts[0])
    while item < len(x):
        while slow and tries < 200:
            _yield()
            tries += 1
        y[item] += x[item] * x[item]
        who[item] = worker
        finish_item(counts[0])
        item = claim_item(counts[0])
    await_all(counts[0], len(x))
    item = claim_item(counts[1])
    while item < len(x):
        x[item] = y[len(x) - 1 - item] + 1
        finish_item(counts[1])
        item = claim_item(counts[1])
    await_all(counts[1], len(x))


def _is_helped(team):
    """Whether the first helper takes part in a kernel whose caller waits for that."""
    came = threading.Event()
    team._run(lambda counts, worker: came.set() if worker == 1 else came.wait(LONG), 2, ())
    return came.is_set()


def test_every_item_is_computed_once_whoever_helps():
    team, start, helpers = Team(), np.arange(300.0), set[int]()
    for _ in range(200):
        x, y, who = start.copy(), np.zeros(300), np.zeros(300, np.int64)
        team._run(_squares, 4, (x, y, who))
        np.testing.assert_array_equal(y, start**2)
        np.testing.assert_array_equal(x, start[::-1] ** 2 + 1)
        helpers |= set(who)
    assert {0} < helpers <= {0, 1, 2, 3}


@compiled
def _claims(counts, worker, items, claimed):
    """How many of the items each worker has claimed, as fast as they can."""
    tries = 0
    while worker == 0 and tries < 20_000 and _finished(counts[0], 0) == 0:
        _yield()
        tries += 1
    while claim_item(counts[0]) < items:
        claimed[worker] += 1


def test_workers_that_claim_at_the_same_time_get_items_of_their_own():
    team, items = Team(), 1_000_000
    for _ in range(3):
        claimed = np.zeros(2, np.int64)
        team._run(_claims, 2, (items, claimed))
        assert _is_helped(team)  # which ends after the kernel before
        assert claimed.sum() == items


def test_nobody_waits_for_a_helper_that_has_not_begun():
    """The only helper is busy: the caller does all the work, and the helper finds none."""
    team, began, free, done = Team(), threading.Event(), threading.Event(), []

    def occupy(counts, worker):
        if worker:
            began.set()
            free.wait(LONG)
        else:
            began.wait(LONG)

    team._run(occupy, 2, ())
    team._run(lambda counts, worker: done.append(worker), 2, ())
    assert began.is_set()
    assert done == [0]
    free.set()
    assert _is_helped(team)  # after all that was offered before
    assert done == [0]


def test_an_error_of_a_helper_leaves_the_work_to_the_caller():
    team, came, done = Team(), threading.Event(), []

    def kernel(counts, worker):
        if worker:
            came.set()
            raise MemoryError
        came.wait(LONG)
        done.append(worker)

    team._run(kernel, 2, ())
    assert done == [0]
    assert _is_helped(team)


def test_an_error_of_the_caller_is_raised_and_its_offers_are_withdrawn():
    team, began, free, done = Team(), threading.Event(), threading.Event(), []

    def occupy(counts, worker):
        if worker:
            began.set()
            free.wait(LONG)
        else:
            began.wait(LONG)

    def kernel(counts, worker):
        done.append(worker)
        raise MemoryError

    team._run(occupy, 2, ())
    with pytest.raises(MemoryError):
        team._run(kernel, 2, ())
    free.set()
    assert _is_helped(team)
    assert done == [0]


def test_where_no_thread_can_be_started_the_caller_works_alone(monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    team, done = Team(), []
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        team._run(lambda counts, worker: done.append(worker), 3, ())
    assert done == [0]
    assert _is_helped(team)


def _ones(*shape):
    return np.ones(shape, np.float32)


@pytest.mark.parametrize(
    "operation",
    [
        lambda b, x: b.response_norm(x, 5, 2.0, 1.0, 0.75, 1),
        lambda b, x: b.response_norm(x, 3, 2.0, 1.0, 0.6, 2),
        lambda b, x: b.max_pool(x, (3, 3), (2, 2), ((0, 0), (0, 0))),
        lambda b, x: b.dense(x, _ones(x.size, 16), None),
        lambda b, x: b.convolution(x, _ones(3, 3, 8, 16), None, (1, 1), ((1, 1), (1, 1)), 1),
    ],
    ids=["response_norm", "another_response_norm", "max_pool", "dense", "convolution"],
)
def test_no_item_allocates_memory(monkeypatch, operation):
    """It may be lacking, and the others would wait for ever for an item that ends in an error."""
    monkeypatch.setattr(few_images, "worthwhile", lambda *_: True)
    b, x = backends.get("numba", threads=1).for_inference(), _ones(1, 40, 40, 8)
    operation(b, x)
    was_enabled = nrt.memsys_stats_enabled()
    nrt.memsys_enable_stats()
    before = nrt.memsys_get_stats_alloc()
    operation(b, x)
    allocated = nrt.memsys_get_stats_alloc() - before
    if not was_enabled:
        nrt.memsys_disable_stats()
    assert 0 < allocated < 16  # one for each array that is passed; there are more items than that


def test_help_is_refused_where_it_costs_time():
    """Both ways are tried at first and now and then; the faster one is used otherwise."""
    for helped_seconds, wanted in ((0.5, True), (2.0, False)):
        pace, chosen = _Pace(), []
        for _ in range(100):
            chosen.append(pace.helped())
            pace.took(helped_seconds if chosen[-1] else 1.0, chosen[-1])
        assert set(chosen[1:6]) == {True, False}
        assert 90 <= sum(choice == wanted for choice in chosen[6:]) + 6 < 100


def test_one_slow_call_does_not_decide():
    """Whichever way it went, and even if it was the first."""
    for slow in (2, 3, 20, 21):
        pace, chosen = _Pace(), []
        for call in range(100):
            chosen.append(pace.helped())
            pace.took((0.8 if chosen[-1] else 1.0) * (100 if call == slow else 1), chosen[-1])
        assert sum(chosen[40:]) > 50


def test_paces_are_kept_by_type_and_shape_and_only_so_many(monkeypatch):
    monkeypatch.setattr(team_module, "_REMEMBERED", 3)
    team = Team()
    found = [
        team._pace(_squares, 2, (np.zeros(size, kind),))
        for size in (1, 2)
        for kind in (np.float32, np.float64)
    ]
    assert len({id(pace) for pace in found}) == 4
    assert team._pace(_squares, 2, (np.ones(2),)) is found[3]
    assert len(team._paces) == 3


def test_a_kernel_of_too_many_phases_does_not_compile():
    """It would count in other memory."""

    @njit
    def kernel(counts, worker):
        claim_item(counts[4])

    with pytest.raises((NumbaError, IndexError), match="out of range"):
        Team()._run(kernel, 1, ())
