import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minialex.data.augment import draws
from minialex.errors import InputError

SEEDS = st.integers(0, 2**64 - 1)
COLOUR = (
    np.array([20.0, 37.0, 122.0]),
    np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0],
)


def same(a: draws.Draws, b: draws.Draws) -> None:
    for name in ("top", "left", "flip", "shift"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), name)


@given(SEEDS, st.integers(0, 1000), st.integers(1, 40), st.integers(0, 40), st.integers(1, 60))
def test_crops_stay_inside(seed, epoch, crop, slack, n):
    drawn = draws.random_draws(seed, epoch, np.arange(n), crop + slack, crop, colour=COLOUR)
    assert len(drawn) == n
    for offset in (drawn.top, drawn.left):
        assert offset.dtype == np.int64
        assert ((offset >= 0) & (offset <= slack)).all()
    assert drawn.flip.dtype == bool
    assert drawn.shift.shape == (n, 3)
    assert drawn.shift.dtype == np.float32


def test_every_offset_of_the_original_occurs():
    drawn = draws.random_draws(0, 0, np.arange(20_000), 256, 224)
    for offset in (drawn.top, drawn.left):
        np.testing.assert_array_equal(np.unique(offset), np.arange(33))
    assert abs(drawn.flip.mean() - 0.5) < 0.02


@given(SEEDS, st.integers(0, 9), st.integers(1, 7), st.data())
def test_a_draw_depends_only_on_its_position(seed, epoch, crop_chunk, data):
    positions = np.array(data.draw(st.lists(st.integers(0, 500), min_size=1, max_size=20)))
    options = {"colour": COLOUR, "crop_chunk": crop_chunk}
    whole = draws.random_draws(seed, epoch, np.arange(501), 64, 50, **options)
    some = draws.random_draws(seed, epoch, positions, 64, 50, **options)
    same(
        some,
        draws.Draws(*(getattr(whole, f)[positions] for f in ("top", "left", "flip", "shift"))),
    )


def test_epochs_and_seeds_differ():
    base = draws.random_draws(1, 2, np.arange(100), 256, 224)
    assert (base.top != draws.random_draws(1, 3, np.arange(100), 256, 224).top).any()
    assert (base.top != draws.random_draws(2, 2, np.arange(100), 256, 224).top).any()


def test_a_chunk_shares_crop_and_mirroring_but_not_colour_shift():
    drawn = draws.random_draws(0, 0, np.arange(320), 256, 224, colour=COLOUR, crop_chunk=32)
    for values in (drawn.top, drawn.left, drawn.flip):
        chunks = values.reshape(10, 32)
        assert (chunks == chunks[:, :1]).all()
        assert len(np.unique(chunks[:, 0])) > 1
    assert len(np.unique(drawn.shift[:, 0])) == 320


def test_mirror_and_colour_can_be_switched_off():
    drawn = draws.random_draws(0, 0, np.arange(50), 64, 60, mirror=False, colour=COLOUR)
    assert not drawn.flip.any()
    assert drawn.shift.any()
    assert not draws.random_draws(
        0, 0, np.arange(50), 64, 60, colour_noise=0, colour=COLOUR
    ).shift.any()
    assert not draws.random_draws(0, 0, np.arange(50), 64, 60).shift.any()


def test_colour_shift_has_the_covariance_of_the_training_set():
    """Along axis i with standard deviation 0.1 · std_i, not an eigenvalue or a row of axes."""
    std, axes = COLOUR
    shift = draws.random_draws(0, 0, np.arange(100_000), 64, 60, colour=COLOUR).shift
    along = shift.astype(np.float64) @ axes
    np.testing.assert_allclose(along.std(axis=0), 0.1 * std, rtol=0.02)
    correlation = np.corrcoef(along.T) - np.eye(3)
    assert np.abs(correlation).max() < 0.02
    assert np.abs(along.mean(axis=0) / std).max() < 0.002


@given(st.integers(1, 300), st.integers(0, 60), st.integers(0, 5))
def test_the_centre_crop(crop, slack, n):
    drawn = draws.centre_draws(n, crop + slack, crop)
    assert len(drawn) == n
    assert (drawn.top == slack // 2).all()
    assert (drawn.left == slack // 2).all()
    assert not drawn.flip.any()
    assert not drawn.shift.any()


def test_ten_crops_in_the_order_of_the_original():
    drawn = draws.ten_crop_draws(256, 224)
    five = [(0, 0), (0, 32), (16, 16), (32, 0), (32, 32)]
    assert list(zip(drawn.top.tolist(), drawn.left.tolist(), strict=True)) == five * 2
    assert drawn.flip.tolist() == [False] * 5 + [True] * 5
    assert not drawn.shift.any()


@given(SEEDS, st.integers(0, 1000), st.integers(0, 300))
def test_an_epoch_visits_each_image_once(seed, epoch, n):
    order = draws.epoch_order(seed, epoch, n)
    np.testing.assert_array_equal(np.sort(order), np.arange(n))


def test_epochs_have_different_orders():
    assert (draws.epoch_order(0, 0, 100) != draws.epoch_order(0, 1, 100)).any()


@pytest.mark.parametrize("crop", [0, 65])
def test_a_crop_larger_than_the_image_is_refused(crop):
    for draw in (
        lambda: draws.random_draws(0, 0, [0], 64, crop),
        lambda: draws.centre_draws(1, 64, crop),
        lambda: draws.ten_crop_draws(64, crop),
    ):
        with pytest.raises(InputError, match="does not fit into images of 64"):
            draw()
