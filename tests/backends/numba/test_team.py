"""Threads that help with a kernel: every item is computed once, and late helpers change nothing."""

import threading
import time

import numpy as np
import pytest
from numba import njit
from numba.core.errors import NumbaError
from numba.core.runtime import _nrt_python as nrt

from minialex import backends
from minialex.backends.numba import team as team_module
from minialex.backends.numba import winograd_panels
from minialex.backends.numba.team import (
    Job,
    Team,
    _current,
    _Pace,
    _yield,
    await_all,
    await_next,
    begin,
    claim_item,
    finish_item,
)

LONG = 10  # seconds, that only a failing test waits


@njit(nogil=True)  # uncached: the cache would keep old code of other folders
def _squares(job, x, y, who):
    """y = x², then x = y + 1 in another order; an item of the first phase is needed by all.

    The caller waits for help, if it comes soon, and each helper is slow with its first item.
    """
    begin(job)
    tries, slow = 0, job.worker > 0
    while job.worker == 0 and tries < 20_000 and _current(job.counts[0], 0) == 0:
        _yield()
        tries += 1
    item = claim_item(job.counts[0])
    while item < len(x):
        while slow and tries < 200:
            _yield()
            tries += 1
        y[item] += x[item] * x[item]
        who[item] = job.worker
        finish_item(job.counts[0])
        item = claim_item(job.counts[0])
    await_all(job.counts[0], len(x))
    item = claim_item(job.counts[1])
    while item < len(x):
        x[item] = y[len(x) - 1 - item] + 1
        finish_item(job.counts[1])
        item = claim_item(job.counts[1])
    await_all(job.counts[1], len(x))
    await_next(job)


def _is_helped(team):
    """Whether the first helper takes part in a kernel whose caller waits for that."""
    came = threading.Event()
    team._run(lambda job: came.set() if job.worker == 1 else came.wait(LONG), 2, ())
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


@njit(nogil=True)  # uncached: the cache would keep old code of other folders
def _claims(job, items, claimed):
    """How many of the items each worker has claimed, as fast as they can."""
    tries = 0
    while job.worker == 0 and tries < 20_000 and _current(job.counts[0], 0) == 0:
        _yield()
        tries += 1
    while claim_item(job.counts[0]) < items:
        claimed[job.worker] += 1


def test_workers_that_claim_at_the_same_time_get_items_of_their_own():
    team, items = Team(), 1_000_000
    for _ in range(3):
        claimed = np.zeros(2, np.int64)
        team._run(_claims, 2, (items, claimed))
        assert _is_helped(team)  # which ends after the kernel before
        assert claimed.sum() == items


def test_a_helper_stays_awake_until_the_next_kernel_begins(monkeypatch):
    monkeypatch.setattr(team_module, "_AWAKE", 10**9)  # however long this takes
    patient = njit(nogil=True)(await_next.py_func)

    @njit(nogil=True)
    def stay(job, ready):
        ready[0] = 1
        return patient(job)

    team, jobs, noticed = Team(), [], []
    team._run(lambda job: jobs.append(job), 2, ())
    job, ready = jobs[0]._replace(worker=1), np.zeros(1, np.int64)
    stay(job._replace(call=job.call + 1), ready)  # compiles
    ready[0], team._bell[0] = 0, job.call
    helper = threading.Thread(target=lambda: noticed.append(stay(job, ready)), daemon=True)
    helper.start()
    end = time.monotonic() + LONG
    while not ready[0] and time.monotonic() < end:
        time.sleep(1e-4)
    helper.join(0.01)
    assert helper.is_alive()
    team._run(_squares, 2, (np.ones(1), np.ones(1), np.zeros(1, np.int64)))
    helper.join(LONG)
    assert noticed == [True]


def test_a_helper_does_not_stay_awake_for_ever():
    assert not await_next(Job((), np.array([4]), call=4, worker=1))


def test_who_comes_late_does_not_wait_and_takes_no_kernel_back():
    job = Job((), np.array([5]), call=4, worker=1)
    begin(job)
    assert job.bell[0] == 5
    assert await_next(job)


def test_the_caller_does_not_wait_for_its_next_kernel():
    job = Job((), np.array([3]), call=4, worker=0)
    begin(job)
    assert job.bell[0] == 4
    assert not await_next(job)


def test_kernels_without_help_leave_the_helpers_asleep_or_awake():
    team, calls = Team(), []
    for threads in (2, 1, 1, 2):
        team._run(lambda job: calls.append(job.call) if job.worker == 0 else None, threads, ())
    assert calls == [1, 1, 1, 2]


def test_nobody_waits_for_a_helper_that_has_not_begun():
    """The only helper is busy: the caller does all the work, and the helper finds none."""
    team, began, free, done = Team(), threading.Event(), threading.Event(), []

    def occupy(job):
        if job.worker:
            began.set()
            free.wait(LONG)
        else:
            began.wait(LONG)

    team._run(occupy, 2, ())
    team._run(lambda job: done.append(job.worker), 2, ())
    assert began.is_set()
    assert done == [0]
    free.set()
    assert _is_helped(team)  # after all that was offered before
    assert done == [0]


def test_an_error_of_a_helper_leaves_the_work_to_the_caller():
    team, came, done = Team(), threading.Event(), []

    def kernel(job):
        if job.worker:
            came.set()
            raise MemoryError
        came.wait(LONG)
        done.append(job.worker)

    team._run(kernel, 2, ())
    assert done == [0]
    assert _is_helped(team)


def test_an_error_of_the_caller_is_raised_and_its_offers_are_withdrawn():
    team, began, free, done = Team(), threading.Event(), threading.Event(), []

    def occupy(job):
        if job.worker:
            began.set()
            free.wait(LONG)
        else:
            began.wait(LONG)

    def kernel(job):
        done.append(job.worker)
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
        team._run(lambda job: done.append(job.worker), 3, ())
    assert done == [0]
    assert _is_helped(team)


def _ones(*shape):
    return np.ones(shape, np.float32)


KERNELS = _ones(3, 3, 8, 16)


@pytest.mark.parametrize(
    "operation",
    [
        lambda b, x: b.response_norm(x, 5, 2.0, 1.0, 0.75, 1),
        lambda b, x: b.response_norm(x, 3, 2.0, 1.0, 0.6, 2),
        lambda b, x: b.max_pool(x, (3, 3), (2, 2), ((0, 0), (0, 0))),
        lambda b, x: b.dense(x, _ones(x.size, 16), None),
        lambda b, x: b.convolution(x, KERNELS, None, (1, 1), ((1, 1), (1, 1)), 1),
        lambda b, x: b.with_precision("int8").convolution(
            x, KERNELS, None, (1, 1), ((1, 1), (1, 1)), 1
        ),
    ],
    ids=["response_norm", "another_response_norm", "max_pool", "dense", "convolution", "int8"],
)
def test_no_item_allocates_memory(monkeypatch, operation):
    """It may be lacking, and the others would wait for ever for an item that ends in an error."""
    monkeypatch.setattr(winograd_panels, "worthwhile", lambda *_: True)
    b, x = backends.get("numba", threads=1).for_inference(), _ones(1, 40, 40, 8)
    operation(b, x)
    was_enabled = nrt.memsys_stats_enabled()
    nrt.memsys_enable_stats()
    before = nrt.memsys_get_stats_alloc()
    operation(b, x)
    allocated = nrt.memsys_get_stats_alloc() - before
    if not was_enabled:
        nrt.memsys_disable_stats()
    assert 0 < allocated < 20  # one for each array that is passed; there are more items than that


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
    def kernel(job):
        claim_item(job.counts[4])

    with pytest.raises((NumbaError, IndexError), match="out of range"):
        Team()._run(kernel, 1, ())
