"""Philox against its authors' known answers; numbers depend only on their counters."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minialex import rng
from reference.dropout import philox4x32

# Random123's known answers for philox4x32, 10 rounds: counter, key, result
KNOWN = [
    ((0,) * 4, (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    (
        (0xFFFFFFFF,) * 4,
        (0xFFFFFFFF,) * 2,
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "wanted"), KNOWN)
def test_known_answers(counter, key, wanted):
    seed = key[0] | key[1] << 32
    assert tuple(int(word) for word in rng.philox4x32(*counter, seed)) == wanted
    assert philox4x32(counter, key) == wanted


@given(
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(0, 2**32 - 1), max_size=4),
    st.integers(0, 13),
    st.integers(0, 9),
)
def test_words_depend_only_on_key_and_counter(seed, purpose, step, indices, count, first):
    words = rng.words(seed, purpose, step, indices, count, first)
    assert words.shape == (len(indices), count)
    key = (seed & 0xFFFFFFFF, seed >> 32)
    for row, index in zip(words, indices, strict=True):
        for u, word in enumerate(row, start=first):
            assert word == philox4x32((u // 4, index, step, purpose), key)[u % 4]


@given(st.integers(1, 300), st.integers(0, 2**40))
def test_each_epoch_has_a_permutation(n, seed):
    orders = [rng.permutation(seed, rng.Stream.SHUFFLE, epoch, n) for epoch in (0, 1)]
    for order in orders:
        assert sorted(order.tolist()) == list(range(n))
    if n > 20:
        assert not np.array_equal(*orders)


def test_every_permutation_is_as_likely():
    orders = [tuple(rng.permutation(1, rng.Stream.SHUFFLE, epoch, 4)) for epoch in range(2400)]
    counts = [orders.count(order) for order in set(orders)]
    assert len(counts) == 24
    assert min(counts) > 60
    assert max(counts) < 140


def test_integers_reach_every_value_evenly():
    values = rng.integers(rng.words(1, 1, 0, [0], 33_000)[0], 33)
    counts = np.bincount(values, minlength=33)
    assert counts.min() > 850
    assert counts.max() < 1150
    assert len(counts) == 33


def test_uniform_and_normal_moments():
    words = rng.words(1, 1, 0, [0], 200_000)[0]
    uniform = rng.uniform(words)
    assert uniform.min() > 0
    assert uniform.max() < 1
    assert uniform.mean() == pytest.approx(0.5, abs=0.003)
    normal = rng.normal(words)
    assert normal.mean() == pytest.approx(0, abs=0.01)
    assert normal.std() == pytest.approx(1, abs=0.01)
    assert np.mean(np.abs(normal) > 2) == pytest.approx(0.0455, abs=0.003)
    assert abs(np.corrcoef(normal[0::2], normal[1::2])[0, 1]) < 0.01


def test_a_large_array_does_not_depend_on_its_blocks():
    """Longer than a block of the generator: its start is the start of a shorter one."""
    long = rng.normal_array(3, 1, 0, (70_001,), 0.01, np.float32)
    short = rng.normal_array(3, 1, 0, (100,), 0.01, np.float32)
    np.testing.assert_array_equal(long[:100], short)
    assert len(np.unique(long)) > 69_000
