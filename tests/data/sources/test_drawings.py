import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minialex.data.sources.drawings import CLASSES, Drawings, open_drawings
from minialex.errors import InputError


@given(st.integers(0, 2**64 - 1), st.integers(0, 1), st.integers(0, 99), st.integers(1, 80))
def test_an_image_is_a_function_of_its_name(seed, part, index, size):
    image = Drawings(100, seed, part).image(index, size)
    assert image.shape == (size, size, 3)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(Drawings(5000, seed, part).image(index, size), image)


def test_images_differ_by_index_split_and_seed():
    images = [
        Drawings(100, seed, part).image(index, 16)
        for seed in (0, 1)
        for part in (0, 1)
        for index in (0, 12, 24)
    ]
    assert len({image.tobytes() for image in images}) == len(images)


def test_all_sizes_show_the_same_scene():
    small = Drawings(12).image(5, 32).astype(float)
    large = Drawings(12).image(5, 128).astype(float).reshape(32, 4, 32, 4, 3).mean(axis=(1, 3))
    assert np.abs(small - large).mean() < 12


def test_classes_are_balanced_and_match_their_names():
    splits = open_drawings(240, seed=3)
    for data, each in ((splits.train, 20), (splits.val, 5)):
        assert np.bincount(data.labels).tolist() == [each] * 12
        assert len(data.class_names) == len(data.class_ids) == 12
        assert list(data.class_ids) == sorted(data.class_ids)
        assert data.labels.dtype == np.int64
    assert CLASSES[0] == "blue dotted cross"
    with pytest.raises(IndexError):
        splits.train.image(240, 8)
    with pytest.raises(InputError, match="shapes:47 is too few"):
        open_drawings(47, seed=0)


def histograms(data: Drawings, bins: int = 6) -> np.ndarray:
    """Square roots of a joint RGB histogram of each image, and a constant: (N, bins^3 + 1)."""
    rows = []
    for index in range(len(data)):
        level = data.image(index, 32).astype(np.int64) * bins // 256
        code = level @ [bins * bins, bins, 1]
        rows.append(np.sqrt(np.bincount(code.ravel(), minlength=bins**3) / code.size))
    return np.c_[np.array(rows), np.ones(len(rows))]


def test_colour_predicts_only_the_colour():
    """A linear classifier on colour histograms tells red from blue, and has to guess the rest."""
    train, val = Drawings(600), Drawings(1200, part=1)
    x, y = histograms(train), np.eye(12)[train.labels]
    weight = np.linalg.solve(x.T @ x + 0.1 * np.eye(x.shape[1]), x.T @ y)
    guess, truth = (histograms(val) @ weight).argmax(axis=1), val.labels
    # ten seeds: 0.89 to 0.91, 0.14 to 0.19, 0.50 to 0.55, 0.34 to 0.37 (deviations 0.01 to 0.02)
    assert (guess // 6 == truth // 6).mean() > 0.8
    assert (guess == truth).mean() < 0.25
    assert abs((guess // 3 % 2 == truth // 3 % 2).mean() - 1 / 2) < 0.12
    assert abs((guess % 3 == truth % 3).mean() - 1 / 3) < 0.1
