"""Warped crops, colours, erasing and MixUp: the draws, and their effect on pixels."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import stats

from minialex import rng
from minialex.data.augment import warp, warp_draws
from minialex.data.augment.draws import random_draws
from minialex.errors import InputError
from minialex.models.recipe import Recipe

PAPER = Recipe(resize=40, crop=32)
ALL = replace(
    PAPER,
    crop_scale=0.3,
    aspect=1.5,
    rotation=20,
    vertical_flip=True,
    brightness=0.3,
    contrast=0.3,
    saturation=0.3,
    erasing=0.5,
)
MEAN = np.array([120.0, 110.0, 90.0])
FILL = np.array([120, 110, 90], np.uint8)


def images(n=4, side=40):
    """Smooth images without any symmetry."""
    y, x = np.mgrid[:side, :side] / side
    waves = [np.sin(3 * x + k) + y * (k + 1) * x + np.cos(5 * y - k) for k in range(3 * n)]
    pictures = np.stack(waves, axis=-1).reshape(side, side, n, 3).transpose(2, 0, 1, 3)
    low, high = pictures.min(), pictures.max()
    return np.ascontiguousarray(60 + 130 * (pictures - low) / (high - low)).astype(np.uint8)


def drawn(recipe, positions, seed=3, epoch=1):
    crops = random_draws(seed, epoch, positions, recipe.resize, recipe.crop)
    return crops, warp_draws.random_warps(recipe, seed, epoch, positions, crops, MEAN)


def warped(recipe, pictures, positions=None, **counters):
    positions = np.arange(len(pictures)) if positions is None else positions
    crops, warps = drawn(recipe, positions, **counters)
    return crops, warp.warp(pictures, warps, recipe.crop, FILL)


# ------------------------------------------------------------------------------ draws


@given(st.lists(st.integers(0, 200), min_size=1, max_size=9), st.integers(0, 2**64 - 1))
@settings(max_examples=20)
def test_draws_depend_only_on_their_position(positions, seed):
    _, whole = drawn(ALL, np.arange(201), seed)
    _, some = drawn(ALL, np.array(positions), seed)
    for name in ("affines", "colours", "holes"):
        np.testing.assert_array_equal(getattr(some, name), getattr(whole, name)[positions], name)


@pytest.mark.parametrize("counters", [{"seed": 4}, {"epoch": 2}])
def test_draws_differ_by_seed_and_epoch(counters):
    before, after = drawn(ALL, np.arange(50))[1], drawn(ALL, np.arange(50), **counters)[1]
    for name in ("affines", "colours", "holes"):
        assert (getattr(before, name) != getattr(after, name)).any(axis=None), name


def test_crops_stay_inside_and_have_the_requested_area():
    recipe = replace(PAPER, crop_scale=0.2, aspect=2.0)
    _, warps = drawn(recipe, np.arange(3000))
    ends = warps.affines @ np.array([[0.0, 0, 1], [32, 32, 1]]).T  # (n, 2, 2)
    assert (ends >= -1e-4).all()
    assert (ends <= 40 + 1e-4).all()
    width, height = (ends[:, :, 1] - ends[:, :, 0]).T
    share, ratio = width * height / 40**2, width / height
    assert share.min() == pytest.approx(0.2, abs=0.01)
    assert share.max() == pytest.approx(1.0, abs=0.01)
    assert share.mean() == pytest.approx(0.6, abs=0.02)
    assert ratio.min() == pytest.approx(0.5, abs=0.02)
    assert ratio.max() == pytest.approx(2.0, abs=0.04)
    assert np.log(ratio).mean() == pytest.approx(0, abs=0.02)
    assert ((ends[:, 0, 0] + ends[:, 0, 1]) / 2).mean() == pytest.approx(20, abs=0.5)


def test_erased_rectangles_stay_inside_and_are_as_frequent_as_requested():
    _, warps = drawn(replace(PAPER, erasing=0.25), np.arange(4000))
    top, left, bottom, right = warps.holes.T
    area = (bottom - top) * (right - left)
    assert (area > 0).mean() == pytest.approx(0.25, abs=0.03)
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert bottom.max() == right.max() == 32
    assert area[area > 0].min() / 32**2 > 0.01
    assert area.max() / 32**2 < 0.4


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_shares_have_the_beta_distribution(alpha):
    word = rng.words(0, rng.Stream.TEST, 0, np.arange(4000), 2)
    assert (
        stats.kstest(warp_draws.symmetric_beta(alpha, word), stats.beta(alpha, alpha).cdf).pvalue
        > 0.01
    )


def test_shares_of_a_tiny_alpha_are_numbers():
    word = rng.words(0, rng.Stream.TEST, 0, np.arange(100), 2)
    share = warp_draws.symmetric_beta(1e-4, word)
    assert ((share == 0) | (share == 1) | ((share > 0) & (share < 1))).all()


@given(st.integers(1, 9), st.integers(0, 50))
def test_no_image_is_mixed_with_itself(n, seed):
    mixing = warp_draws.random_mixing(0.4, seed, 0, np.arange(10, 10 + n))
    assert ((mixing.partner >= 0) & (mixing.partner < n)).all()
    assert n == 1 or (mixing.partner != np.arange(n)).all()
    assert mixing.share.dtype == np.float32
    assert ((mixing.share >= 0.5) & (mixing.share <= 1)).all()


def test_any_image_can_be_a_partner_and_shares_do_not_depend_on_the_batch():
    mixings = [warp_draws.random_mixing(0.4, seed, 0, np.arange(4)) for seed in range(40)]
    assert {int(m.partner[0]) for m in mixings} == {1, 2, 3}
    larger = warp_draws.random_mixing(0.4, 7, 0, np.arange(8))
    np.testing.assert_array_equal(larger.share[:4], mixings[7].share)


# ------------------------------------------------------------------------------ pixels


def test_shifts_by_whole_pixels_copy_bytes():
    """Upside down, with the paper's crop and unchanged colours."""
    pictures = images(8)
    crops, found = warped(replace(PAPER, vertical_flip=True), pictures)
    turned = 0
    for one, picture, top, left in zip(found, pictures, crops.top, crops.left, strict=True):
        cut = picture[top : top + 32, left : left + 32]
        turned += int(np.array_equal(one, cut[::-1]))
        assert np.array_equal(one, cut) or np.array_equal(one, cut[::-1])
    assert 0 < turned < 8


def test_a_rotation_about_the_crops_centre_matches_pillow():
    pictures, recipe = images(6), replace(PAPER, rotation=25)
    crops, found = warped(recipe, pictures)
    word = rng.words(3, rng.Stream.WARP, 1, np.arange(6), 6)
    angles = 25 * (2 * rng.uniform(word[:, 4]) - 1)
    assert angles.min() < 0 < angles.max()
    for n in range(6):
        centre = crops.left[n] + 16, crops.top[n] + 16
        turned = Image.fromarray(pictures[n]).rotate(
            angles[n], Image.Resampling.BILINEAR, center=centre, fillcolor=tuple(FILL.tolist())
        )
        cut = np.asarray(turned)[crops.top[n] :, crops.left[n] :][:32, :32].astype(int)
        # a pixel at the edge of the image may be inside for one and outside for the other
        assert (np.abs(cut - found[n]).max(axis=2) > 2).mean() < 0.02, angles[n]


def test_a_scaled_crop_matches_pillow():
    pictures, recipe = images(6), replace(PAPER, crop_scale=0.3, aspect=1.5)
    _, warps = drawn(recipe, np.arange(6))
    found = warp.warp(pictures, warps, 32, FILL)
    for n in range(6):
        matrix = warps.affines[n].ravel().tolist()
        wanted = Image.fromarray(pictures[n]).transform(
            (32, 32), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
        )
        assert np.abs(np.asarray(wanted).astype(int) - found[n]).max() <= 1


def test_pixels_outside_the_image_get_the_mean_colour():
    _, found = warped(replace(PAPER, resize=33, rotation=45), images(20, 33) // 8)
    outside = (found == FILL).all(axis=3)
    corners = outside[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert corners.any()
    assert not outside[:, 10:22, 10:22].any()
    assert (found[~outside] < 40).all()


def test_erasing_covers_only_its_rectangle():
    pictures, recipe = images(12), replace(PAPER, erasing=1.0)
    crops, warps = drawn(recipe, np.arange(12))
    _, found = warped(recipe, pictures)
    for n, (top, left, bottom, right) in enumerate(warps.holes):
        inside = np.zeros((32, 32), bool)
        inside[top:bottom, left:right] = True
        cut = pictures[n][crops.top[n] :, crops.left[n] :][:32, :32]
        np.testing.assert_array_equal(found[n][inside], np.broadcast_to(FILL, (inside.sum(), 3)))
        np.testing.assert_array_equal(found[n][~inside], cut[~inside])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"brightness": 0.4}, lambda x, f: f * x),
        ({"contrast": 0.4}, lambda x, f: MEAN + f * (x - MEAN)),
        ({"saturation": 0.4}, lambda x, f: f * x + (1 - f) * (x @ [[0.299], [0.587], [0.114]])),
    ],
)
def test_colours_by_hand(change, expected):
    pictures, [strength] = images(6), change.values()
    crops, found = warped(replace(PAPER, **change), pictures)
    column = {"saturation": 0, "brightness": 1, "contrast": 2}[next(iter(change))]
    u = rng.uniform(rng.words(3, rng.Stream.LIGHT, 1, np.arange(6), 3))[:, column]
    factors = 1 + (2 * u - 1) * strength
    assert factors.min() < 1 < factors.max()
    for n in range(6):
        cut = pictures[n][crops.top[n] :, crops.left[n] :][:32, :32].astype(float)
        wanted = np.clip(expected(cut, factors[n]), 0, 255)
        assert np.abs(wanted - found[n]).max() < 0.51


def test_threads_change_nothing(monkeypatch):
    pictures = images(5)
    _, alone = warped(ALL, pictures)
    monkeypatch.setattr(warp, "_THREADED", 1)
    monkeypatch.setattr(warp, "usable_cores", lambda: 3)
    _, together = warped(ALL, pictures)
    np.testing.assert_array_equal(alone, together)


def test_mixed_pixels_are_weighted_by_their_shares():
    pictures = images(4)
    mixing = warp_draws.Mixing(np.array([2, 0, 3, 1]), np.array([0.7, 0.0, 1.0, 0.5], np.float32))
    found = warp.mix(pictures, mixing).astype(float)
    share = mixing.share[:, None, None, None]
    wanted = share * pictures + (1 - share) * pictures[mixing.partner]
    assert np.abs(found - wanted).max() <= 0.501
    np.testing.assert_array_equal(found[1], pictures[0])
    np.testing.assert_array_equal(found[2], pictures[2])


def test_scaled_crops_without_random_ones_are_refused():
    with pytest.raises(InputError, match="leave them out with centre crops"):
        replace(PAPER, random_crops=False, crop_scale=0.5)
