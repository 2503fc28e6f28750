"""Threads claim items of work: each item once, and none is left."""

import numpy as np
import pytest
from numba import njit, prange, set_num_threads
from numba.core.errors import TypingError

from minialex import backends
from minialex.backends.numba.claims import claim, new_claims


@njit(parallel=True)  # uncached: the cache would keep old code of other folders
def _done(times, threads):
    claimed = new_claims()
    for _ in prange(threads):
        item = claim(claimed)
        while item < len(times):
            times[item] += 1
            item = claim(claimed)


@pytest.mark.parametrize("items", [0, 1, 5, 100_000])
def test_each_item_is_claimed_once(items):
    """With more claimants than threads too: the work of a thread that comes late is done."""
    most = backends.get("numba").threads
    times = np.zeros(items, np.int64)
    set_num_threads(most)
    for claimants in (1, most, 3 * most):
        times[:] = 0
        _done(times, claimants)
        np.testing.assert_array_equal(times, 1)


@pytest.mark.parametrize("claimed", [np.zeros(1, np.int32), np.zeros((1, 1), np.int64)])
def test_other_arrays_are_refused(claimed):
    """An atomic instruction of 64 bits would write beyond an int32."""
    with pytest.raises(TypingError, match="claims are counted in an int64 array"):
        njit(lambda array: claim(array))(claimed)
