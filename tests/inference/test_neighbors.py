"""Nearest images by features and by pixels, and the index that keeps features."""

import os
from dataclasses import replace

import numpy as np
import pytest
from helpers.cli_tools import write_photo
from helpers.untrained import untrained

from minialex.errors import InputError
from minialex.inference import neighbors
from minialex.inference.neighbors import (
    Index,
    Nearest,
    distances,
    files_fingerprint,
    network_fingerprint,
    vectors,
)
from minialex.layers import AveragePool, Conv2D, Dense
from minialex.network import Network


def test_distances_are_euclidean_and_exact():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, (3, 50), np.uint8), rng.integers(0, 256, (7, 50), np.uint8)
    wanted = [[np.linalg.norm(x.astype(float) - y.astype(float)) for y in b] for x in a]
    np.testing.assert_allclose(distances(a, b), wanted)
    far = np.full((1, 4), 1e6)
    assert distances(far, far + 1e-3)[0, 0] == pytest.approx(2e-3, rel=1e-6)  # no cancellation


def nearest(rows, count, left_out=(), batch=4):
    best = Nearest(np.zeros((1, 1)), count, [left_out])
    for start in range(0, len(rows), batch):
        some = rows[start : start + batch]
        best.add(["abcdef"[start + i] for i in range(len(some))], np.array(some)[:, None])
    return best.rows()


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_nearest_first_and_queries_left_out(batch):
    rows = [0.0, 2.0, 1.0, -1.0]
    [row] = nearest(rows, 3, ["a"], batch)
    assert [(n.name, n.distance) for n in row] == [("c", 1.0), ("d", 1.0), ("b", 2.0)]
    [row] = nearest(rows, 9, batch=batch)
    assert len(row) == 4
    with pytest.raises(InputError, match="the queries are the only images"):
        nearest([1.0], 1, ["a"])


def test_each_query_leaves_out_only_itself(monkeypatch):
    for block in (1, 2, 64):
        monkeypatch.setattr(neighbors, "_BLOCK", block)
        best = Nearest(np.array([[0.0], [1.0], [3.0]]), 2, [["a"], ["b"], []])
        best.add(["a", "b"], np.array([[0.0], [1.0]]))
        names = [[near.name for near in row] for row in best.rows()]
        assert names == [["b"], ["a"], ["b", "a"]]


def test_nearest_images_do_not_depend_on_the_batches(monkeypatch):
    rng = np.random.default_rng(0)
    queries, rows = rng.integers(0, 9, (10, 3)), rng.integers(0, 9, (40, 3))
    names = [str(i) for i in range(40)]
    found = distances(queries, rows)
    wanted = np.argsort(found, axis=1, kind="stable")[:, :5]
    for block in (1, 7, 64):
        monkeypatch.setattr(neighbors, "_BLOCK", block)
        best = Nearest(queries, 5)
        best.add(names, rows)
        for row, order, exact in zip(best.rows(), wanted, found, strict=True):
            assert [(n.name, n.distance) for n in row] == [(names[k], exact[k]) for k in order]


def test_vectors_are_last_hidden_layer_or_pixels():
    classifier = untrained()
    images = np.random.default_rng(0).integers(0, 256, (2, 72, 72, 3), np.uint8)
    np.testing.assert_array_equal(
        vectors(classifier, images, "features"), classifier.features(images)
    )
    np.testing.assert_array_equal(vectors(classifier, images, "pixels"), images.reshape(2, -1))
    with pytest.raises(InputError, match="did you mean 'pixels'"):
        vectors(classifier, images, "pixel")


@pytest.mark.parametrize(
    "layers", [(("fc", Dense(12)),), (("conv", Conv2D(12, 3)), ("pool", AveragePool(62, 62)))]
)
def test_a_network_without_a_hidden_layer_has_no_features(layers):
    """Its scores are none, and neither are the maps of a network without a dense layer."""
    given = untrained()
    model = replace(given.model, network=Network(layers, (64, 64, 3)))
    classifier = replace(given, model=model, params=model.network.init(given.devices.backend))
    with pytest.raises(InputError, match="this network has no features"):
        vectors(classifier, np.zeros((2, 72, 72, 3), np.uint8), "features")


def test_a_stored_index_belongs_to_its_network_and_files(tmp_path):
    photo = write_photo(tmp_path / "a.jpg")
    network, files = network_fingerprint(untrained(1)), files_fingerprint([str(photo)])
    index = Index((str(photo),), np.ones((1, 5), np.float32), network, files)
    path = tmp_path / "index.npz"
    index.save(path)
    again = Index.load(path)
    np.testing.assert_array_equal(again.features, index.features)
    assert (again.names, again.network, again.files) == (index.names, network, files)
    again.require(path, network, files)
    assert network_fingerprint(untrained(1)) == network
    with pytest.raises(InputError, match="another network"):
        again.require(path, network_fingerprint(untrained(2)), files)
    os.utime(photo, ns=(1, 1))
    with pytest.raises(InputError, match="built from other files"):
        again.require(path, network, files_fingerprint([str(photo)]))


@pytest.mark.parametrize("cut", [0, 10, 300, -30])
def test_a_damaged_index_is_refused(tmp_path, cut):
    path = tmp_path / "index.npz"
    Index(("a",), np.ones((1, 5)), "n", "f").save(path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InputError, match="damaged or not a minialex index"):
        Index.load(path)


def test_an_index_without_its_parts_is_refused(tmp_path):
    path = tmp_path / "index.npz"
    np.savez(path, names=np.array(["a"]), features=np.ones((2, 5)), network="n", files="f")
    with pytest.raises(InputError, match="damaged or not a minialex index"):
        Index.load(path)
    np.savez(path, names=np.array(["a", None], object))
    with pytest.raises(InputError, match="damaged or not a minialex index"):
        Index.load(path)
