"""A manifest is accepted only if it agrees with itself and with the files."""

import json

import numpy as np
import pytest

from minialex.data.packed.dataset import verify
from minialex.data.packed.format import checksum, header, write_array
from minialex.data.packed.prepare import prepare
from minialex.data.sources.open import open_data
from minialex.errors import InputError

SIZE = 16


@pytest.fixture(params=[False, True], ids=["pixels", "jpeg"])
def root(request, photos, tmp_path):
    prepare(photos, tmp_path / "packed", size=SIZE, jpeg=request.param, progress=False)
    return tmp_path / "packed"


@pytest.fixture
def refused(root):
    """Change the manifest by a function, sign it again, and return the sentence it gets."""

    def attempt(change, sign=True) -> str:
        path = root / "manifest.json"
        whole = path.read_text()
        values = json.loads(whole)
        change(values)
        if sign:
            values["checksum"] = checksum(values)
        path.write_text(json.dumps(values))
        with pytest.raises(InputError) as caught:
            open_data(root)
        path.write_text(whole)
        assert str(root) in str(caught.value)
        return str(caught.value)

    return attempt


def replace_array(values, root, part, name, array, kind):
    """Another array in place of one of the set, with its right size and checksum."""
    entry = write_array(root / f"{part}-{name}.npy", np.array(array), kind)
    values["parts"][part][name].update(entry)


def test_a_changed_value_is_detected(refused):
    def nudge(values):
        values["statistics"]["colour_std"][0] += 1e-9

    assert "its checksum is wrong" in refused(nudge, sign=False)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("format",), "other", "its format is not"),
        (("version",), 2, "of version 2, but this minialex reads version 1: update it"),
        (("size",), 0, "size is 0"),
        (("size",), True, "size is True"),
        (("size",), 15, "packed"),
        (("class_ids",), ["cat", "cat"], "class_ids does not hold two or more different"),
        (("class_ids",), ["cat"], "class_ids does not hold two or more"),
        (("class_ids",), ["cat", 3], "class_ids has entries that are not names"),
        (("class_names",), ["cat"], "class_names and class_ids differ in length"),
        (("parts",), {}, "train is missing"),
        (("parts", "train", "images"), 11, "the shards of train hold 10 images, not 11"),
        (("parts", "val", "shards"), [], "the shards of val hold 0 images, not 4"),
        (("parts", "val", "shards"), [1], "an entry of shards is not an object"),
        (("parts", "train", "shards", 0, "bytes"), 1 << 50, "bytes, but manifest.json says"),
        (("parts", "train", "shards", 0, "file"), "missing.npy", "missing: copy the whole folder"),
        (("parts", "train", "labels"), None, "labels is missing"),
        (("parts", "train", "names", "width"), 3, "is not an array of |S3"),
        (("statistics", "colour_std"), [1, 2], "colour_std or colour_axes is missing or wrong"),
        (("statistics", "colour_std"), [1, 2, "x"], "colour_std or colour_axes is missing or"),
        (("statistics", "colour_std"), [1, 2, float("nan")], "not finite"),
        (("statistics", "mean", "bytes"), 5, "has "),
    ],
)
def test_a_manifest_that_disagrees_is_refused(refused, path, value, words):
    def change(values):
        *holders, last = path
        for key in holders:
            values = values[key]
        values[last] = value

    assert words in refused(change)


@pytest.mark.parametrize("label", [-1, 2])
def test_a_label_beyond_the_classes_is_refused(root, refused, label):
    labels = [0, 0, 0, label]
    assert "val has a label beyond the 2 classes" in refused(
        lambda values: replace_array(values, root, "val", "labels", labels, "<i8")
    )


def test_a_file_outside_the_folder_is_not_read(root, refused, tmp_path):
    for name in ("../twin.npy", str(tmp_path / "twin.npy")):
        (tmp_path / "twin.npy").write_bytes((root / "mean.npy").read_bytes())
        assert "is not the plain name of a file" in refused(
            lambda values, name=name: values["statistics"]["mean"].update(file=name)
        )


@pytest.mark.parametrize("root", [False], ids=["pixels"], indirect=True)
@pytest.mark.parametrize("places", [5, {"file": "../twin.npy", "bytes": 1}])
def test_unknown_manifest_entries_are_not_read(root, tmp_path, places):
    (tmp_path / "twin.npy").write_bytes(b"x")
    path = root / "manifest.json"
    values = json.loads(path.read_text())
    values["parts"]["train"]["places"] = places
    values["checksum"] = checksum(values)
    path.write_text(json.dumps(values))
    assert verify(root) == []


OUTSIDE = [(-1, 5), (0, 0), (10**9, 5), (0, 10**9), (2**63 - 1, 2**62)]


@pytest.mark.parametrize("root", [True], ids=["jpeg"], indirect=True)
@pytest.mark.parametrize("byte_range", OUTSIDE)
def test_a_jpeg_outside_its_shard_is_refused(root, refused, byte_range):
    places = np.load(root / "val-places.npy")
    places[2] = byte_range
    assert "an image of val lies outside its shard" in refused(
        lambda values: replace_array(values, root, "val", "places", places, "<i8")
    )


@pytest.mark.parametrize("root", [False], ids=["pixels"], indirect=True)
def test_a_shard_with_another_header_is_refused(root):
    shard = root / "val-00000.npy"
    content = shard.read_bytes()
    shard.write_bytes(header("|i1", (4, SIZE, SIZE, 3)) + content[128:])
    with pytest.raises(InputError, match=r"val-00000\.npy' is not an array of \|u1"):
        open_data(root)


def test_a_change_in_any_byte_is_detected(root):
    assert verify(root) == []
    seen = []
    for path in sorted(root.iterdir()):
        if path.name in ("manifest.json", "report.txt", ".lock"):
            continue
        content = path.read_bytes()
        changed = bytearray(content)
        changed[-1] ^= 4
        path.write_bytes(changed)
        try:
            seen += verify(root)
        except InputError as error:
            seen.append(str(error))
        assert path.name in seen[-1] or "manifest" in seen[-1]
        path.write_bytes(content)
    assert len(seen) == len(list(root.iterdir())) - 3


@pytest.mark.parametrize("root", [True], ids=["jpeg"], indirect=True)
def test_a_jpeg_of_another_size_is_named(root):
    val = open_data(root).val
    object.__setattr__(val, "size", SIZE + 1)
    with pytest.raises(InputError, match=r"val-00000\.jpegs, image 0 .* has the wrong size"):
        val.image(0, SIZE)


def test_indices_out_of_range_are_refused(root):
    val = open_data(root).val
    for index in (-1, 4):
        with pytest.raises(IndexError):
            val.image(index, SIZE)


@pytest.mark.parametrize("shape", [(1,), (12345, 256, 256, 3), (7, 2), (10**12, 1)])
def test_headers_are_written_by_numpy(tmp_path, shape):
    with (tmp_path / "a.npy").open("wb") as file:
        file.write(header("<i8", shape))
    with (tmp_path / "a.npy").open("rb") as file:
        assert np.lib.format.read_magic(file) == (1, 0)
        found = np.lib.format.read_array_header_1_0(file)
    assert found == (shape, False, np.dtype("<i8"))
