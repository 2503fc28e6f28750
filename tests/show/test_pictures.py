"""Pictures of arrays: what is black, grey and white, and which map stands where."""

import numpy as np
import pytest

from minialex import models
from minialex.saliency.receptive_field import centres, receptive_field
from minialex.show.pictures import GAP, heat, over, resized, saliency, shades, sheet


def test_shades():
    assert shades(np.array([0, 1, 4])).tolist() == [0, 128, 255]
    assert shades(np.array([0, 1, -4])).tolist() == [128, 191, 0]
    assert shades(np.array([0.0, 4.0, np.nan, np.inf]), largest=16).tolist() == [0, 128, 0, 0]
    assert shades(np.zeros(2)).tolist() == [0, 0]


@pytest.mark.parametrize("count", [1, 15, 16])
def test_a_map_is_where_the_page_looks_for_it(count):
    maps = np.random.default_rng(0).random((13, 11, count))
    found = sheet(maps)
    high, wide = found.cell
    zoom = (high - GAP) // 13
    assert (high, wide) == (13 * zoom + GAP, 11 * zoom + GAP)
    for k in range(count):
        row, column = divmod(k, found.columns)
        cell = found.pixels[row * high :, column * wide :][: 13 * zoom : zoom, : 11 * zoom : zoom]
        np.testing.assert_array_equal(cell, shades(maps)[..., k])
    assert found.pixels.shape[1] <= 660
    assert found.count == count


def test_few_maps_are_larger():
    few, many = (sheet(np.ones((8, 8, count))) for count in (4, 400))
    assert few.cell[0] > 2 * many.cell[0]
    assert few.pixels.shape[0] <= 330


@pytest.mark.parametrize("count", [5, 512, 2048])
def test_units_stand_in_rows(count):
    units = np.linspace(0, 1, count)
    found = sheet(units)
    high, wide = found.cell
    cells = found.pixels[::high, ::wide]
    assert cells.shape[1] == found.columns
    assert found.gap == 0
    np.testing.assert_array_equal(cells.ravel()[:count], shades(units))
    assert set(cells.ravel()[count:]) <= {96}


def test_heat_grows_brighter():
    colours = heat(np.linspace(0, 1, 50)).astype(int)
    light = colours @ (0.3, 0.59, 0.11)
    assert (np.diff(light) > 0).all()
    assert heat(np.array([-1, 2.0, np.nan])).tolist() == [[0, 0, 4], [252, 253, 191], [0, 0, 4]]


def test_heat_over_a_photograph():
    pixels = np.full((8, 8, 3), 100, np.uint8)
    values = np.array([[1.0, -5.0], [0.0, 0.5]])
    found = over(pixels, values)
    assert found.shape == (8, 8, 3)
    assert found[0, 0].sum() > found[7, 7].sum() > found[0, 7].sum()
    np.testing.assert_array_equal(over(pixels, np.zeros((2, 2)))[0, 0], [45, 45, 47])
    assert resized(values, (4, 6)).shape == (4, 6)


def test_heat_lies_where_the_units_look():
    """The brightest pixel is the centre of the receptive field."""
    network = models.get("alexnet-64", 5).network
    pixels = np.full((64, 64, 3), 100, np.uint8)
    for layer, unit in (("conv1", (7, 3)), ("pool1", (4, 6)), ("norm1", (9, 2))):
        values = np.zeros(network.until(layer).shapes()[-1][:2])
        values[unit] = 1.0
        found = over(pixels, values, centres(network, layer)).sum(axis=2)
        box = receptive_field(network, layer, unit)
        bright = np.argwhere(found == found.max()).mean(axis=0)
        middle = ((box.top + box.bottom - 1) / 2, (box.left + box.right - 1) / 2)
        np.testing.assert_allclose(bright, middle, atol=0.5)
    whole = centres(network, "relu5")
    flat = over(pixels, np.ones((7, 7)), whole)
    assert (flat == flat[0, 0]).all()


def test_saliency_is_grey_where_nothing_came_back():
    dx = np.zeros((6, 6, 3))
    assert (saliency(dx) == 128).all()
    dx[2, 3] = (1, -1, 0)
    assert saliency(dx)[2, 3].tolist() == [255, 0, 128]
    assert (saliency(np.where(dx == 0, 0, dx))[0, 0] == 128).all()
