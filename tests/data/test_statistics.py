import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minialex.data.loading.loader import Loader
from minialex.data.sources.drawings import Drawings
from minialex.data.statistics import measure
from minialex.errors import InputError


def naive(dataset, size):
    """All pixels at once, in float64."""
    pixels = np.stack([dataset.image(i, size) for i in range(len(dataset))]).astype(np.float64)
    return pixels.mean(axis=0), np.cov(pixels.reshape(-1, 3).T, bias=True)


@pytest.mark.parametrize("size", [8, 24])
def test_equals_a_naive_computation(size):
    dataset = Drawings(50)
    mean, covariance = naive(dataset, size)
    found = measure(dataset, size)
    assert found.count == 50
    assert found.mean.dtype == np.float32
    np.testing.assert_array_equal(found.mean, mean.astype(np.float32))
    axes, std = found.colour_axes, found.colour_std
    np.testing.assert_allclose((axes * std**2) @ axes.T, covariance, rtol=1e-10, atol=1e-8)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-12)
    assert (np.diff(std) >= 0).all()
    assert (axes[np.abs(axes).argmax(axis=0), range(3)] > 0).all()


@given(st.integers(2, 5), st.integers(65, 200))
def test_threads_change_no_bit(numbered, workers, count):
    one = measure(numbered(count), 2, workers=1)
    many = measure(numbered(count), 2, workers=workers)
    assert one.count == many.count == count
    for name in ("mean", "colour_std", "colour_axes"):
        assert getattr(one, name).tobytes() == getattr(many, name).tobytes()


def test_unreadable_images_are_left_out_and_progress_is_reported(numbered):
    told: list[int] = []
    found = measure(numbered(100, broken={0, 50}), 2, progress=told.append)
    assert found.count == sum(told) == 98
    mean = (sum(range(100)) - 50) / 98
    np.testing.assert_allclose(found.mean, mean, rtol=1e-6)


def test_a_grey_set_has_one_axis(numbered):
    found = measure(numbered(100), 2)
    np.testing.assert_allclose(found.colour_axes[:, 2], 3**-0.5)
    np.testing.assert_allclose(found.colour_std, (0, 0, np.arange(100).std() * 3**0.5), atol=1e-4)


def test_the_loader_caches_decoded_images(numbered):
    dataset = numbered(20)
    load = Loader(dataset, 2)
    measure(dataset, 2, loader=load)
    list(load.batches(np.arange(20), 4))
    assert len(dataset.reads) == 20


def test_without_images_there_is_an_error(numbered):
    with pytest.raises(InputError, match="no image to measure"):
        measure(numbered(0), 2)


def test_photographs_vary_most_in_brightness(shared_data):
    """The original's axes for ILSVRC: 19.7, 37.1 and 121.8 grey levels, the last nearly grey."""
    from minialex.data import open_data, subset

    train = open_data(shared_data / "imagenette").train
    found = measure(subset(train, np.arange(0, len(train), 20)), 64)
    np.testing.assert_allclose(found.colour_axes[:, 2], 3**-0.5, atol=0.05)
    np.testing.assert_allclose(found.colour_std, (19.7, 37.1, 121.8), rtol=0.35)
