"""Threads that help with a kernel: every item is computed once, and late helpers change nothing."""

import threading
import time

import numpy as np

from minialex.backends.numba.team import Team, _Pace, await_all, claim, finish
from minialex.utils.jit import compiled


@compiled
def _squares(counts, worker, x, y, who):
    """y = x², then x = y + 1 in another order; an item of the first phase is needed by all."""
    item = claim(counts[0])
    while item < len(x):
        y[item] += x[item] * x[item]
        who[item] = worker
        finish(counts[0])
        item = claim(counts[0])
    await_all(counts[0], len(x))
    item = claim(counts[1])
    while item < len(x):
        x[item] = y[len(x) - 1 - item] + 1
        finish(counts[1])
        item = claim(counts[1])
    await_all(counts[1], len(x))


def test_every_item_is_computed_once_whoever_helps():
    team, start = Team(), np.arange(300.0)
    for _ in range(300):
        x, y, who = start.copy(), np.zeros(300), np.zeros(300, np.int64)
        team._run(_squares, 4, (x, y, who))
        np.testing.assert_array_equal(y, start**2)
        np.testing.assert_array_equal(x, start[::-1] ** 2 + 1)
        assert set(who) <= {0, 1, 2, 3}


def test_nobody_waits_for_a_helper_that_has_not_begun():
    """The only helper is busy: the caller does all the work, and the helper finds none."""
    team, busy, done = Team(), threading.Event(), []

    def kernel(counts, worker):
        done.append(worker)
        if worker:
            busy.wait(10)

    team._run(lambda counts, worker: busy.wait(10) if worker else time.sleep(0.1), 2, ())
    team._run(kernel, 2, ())
    assert done == [0]
    busy.set()
    later = np.zeros(1)
    team._run(_squares, 2, (later, later.copy(), np.zeros(1, np.int64)))
    assert done == [0]


def test_help_is_refused_where_it_costs_time():
    """Both ways are tried at first and now and then; the faster one is used otherwise."""
    for helped_seconds, wanted in ((0.5, True), (2.0, False)):
        pace, chosen = _Pace(), []
        for _ in range(100):
            chosen.append(pace.helped())
            pace.took(helped_seconds if chosen[-1] else 1.0, chosen[-1])
        assert set(chosen[1:6]) == {True, False}
        assert 90 <= sum(choice == wanted for choice in chosen[6:]) + 6 < 100
