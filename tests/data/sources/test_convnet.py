"""cuda-convnet's and CIFAR-10's pickles: images are read, and nothing is executed."""

import io
import os
import pickle
import struct

import numpy as np
import pytest

from minialex.data.sources.open import open_data, open_for_evaluation
from minialex.errors import InputError
from minialex.utils import plain_pickle

NAMES = ["airplane", "automobile", "bird"]
SIDE = 4


class Python2(pickle._Pickler):
    """Writes strings as Python 2 did, with their own instruction."""

    dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012

    def save_string(self, text):
        text = text.encode("latin1") if isinstance(text, str) else text
        if self.proto == 0:
            self.write(b"S" + repr(text)[1:].encode("ascii") + b"\n")
        else:
            self.write(b"T" + struct.pack("<i", len(text)) + text)
        self.memoize(text)

    dispatch[bytes] = dispatch[str] = save_string


def python2(value, protocol=2) -> bytes:
    content = io.BytesIO()
    Python2(content, protocol).dump(value)
    return content.getvalue()


def pixels(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 3, SIDE, SIDE), np.uint8)


def batch(count, seed=0, columns=True, **changes):
    rows = pixels(count, seed).reshape(count, -1)
    data = np.ascontiguousarray(rows.T) if columns else rows
    labels = [int(i % 3) for i in range(count)]
    return {"batch_label": "one of some", "data": data, "labels": labels, **changes}


def write(folder, numbers, dump=python2, **options):
    folder.mkdir(exist_ok=True)
    for number in numbers:
        name = f"data_batch_{number}" if isinstance(number, int) else number
        seed = number if isinstance(number, int) else 99
        (folder / name).write_bytes(dump(batch(7, seed, **options)))
    meta = {"label_names": NAMES, "data_mean": np.zeros((3 * SIDE * SIDE, 1), np.float32)}
    (folder / "batches.meta").write_bytes(dump(meta))
    return folder


DUMPS = {
    "python 2, protocol 2": python2,
    "python 2, protocol 0": lambda value: python2(value, 0),
    "protocol 2": lambda value: pickle.dumps(value, 2),
    "protocol 4": lambda value: pickle.dumps(value, 4),
    "protocol 5": lambda value: pickle.dumps(value, 5),
}


@pytest.mark.parametrize("columns", [True, False], ids=["cuda-convnet", "CIFAR-10"])
@pytest.mark.parametrize("dump", DUMPS.values(), ids=DUMPS)
def test_images_and_labels(tmp_path, dump, columns):
    splits = open_data(write(tmp_path / "b", [1, 2, 10, "test_batch"], dump, columns=columns))
    assert (len(splits.train), len(splits.val)) == (21, 7)
    assert splits.train.class_names == tuple(NAMES)
    assert splits.train.native_size == SIDE
    assert splits.train.labels.tolist() == [0, 1, 2, 0, 1, 2, 0] * 3
    for index, seed, row in ((0, 1, 0), (13, 2, 6), (20, 10, 6)):
        wanted = pixels(7, seed)[row].transpose(1, 2, 0)
        np.testing.assert_array_equal(splits.train.image(index, SIDE), wanted)
    assert splits.train.image(0, 9).shape == (9, 9, 3)
    assert splits.train.describe(20).endswith("data_batch_10, image 6")
    assert len(open_for_evaluation(tmp_path / "b")) == 7


def test_which_batches_are_for_validation(tmp_path):
    splits = open_data(write(tmp_path / "six", range(1, 7)))
    assert (len(splits.train), len(splits.val)) == (35, 7)
    assert "data_batch_6 for validation" in splits.val.layout
    splits = open_data(write(tmp_path / "large", [1, 2, 1000, 1001]))
    assert (len(splits.train), len(splits.val)) == (14, 14)
    splits = open_data(write(tmp_path / "none", [1, 2]), val_fraction=0.3)
    assert len(splits.train) + len(splits.val) == 14
    assert set(splits.train.labels) == set(splits.val.labels)
    (tmp_path / "none" / "batches.meta").unlink()
    assert open_data(tmp_path / "none").train.class_ids == ("0", "1", "2")


@pytest.mark.parametrize("dump", DUMPS.values(), ids=DUMPS)
def test_cifar_100(tmp_path, dump):
    names = [f"name {k}" for k in range(5)]
    for part, seed in (("train", 1), ("test", 2)):
        values = batch(7, seed, columns=False, coarse_labels=[0] * 7, filenames=["a.png"] * 7)
        values["fine_labels"] = [4, *values.pop("labels")[1:]]
        (tmp_path / part).write_bytes(dump(values))
    coarse = {"fine_label_names": names, "coarse_label_names": ["all"]}
    (tmp_path / "meta").write_bytes(dump(coarse))
    splits = open_data(tmp_path)
    assert splits.train.class_names == splits.val.class_names == tuple(names)
    assert splits.train.labels.tolist() == [4, 1, 2, 0, 1, 2, 0]
    np.testing.assert_array_equal(splits.val.image(3, SIDE), pixels(7, 2)[3].transpose(1, 2, 0))
    (tmp_path / "test").unlink()
    assert len(open_data(tmp_path, val_fraction=0.3).val) >= 1


@pytest.mark.parametrize("columns", [True, False])
def test_a_hole_of_zeros_is_refused(tmp_path, columns):
    write(tmp_path / "b", [1, 2])
    values = batch(7, 2, columns=columns)
    (values["data"].T if columns else values["data"])[3:5] = 0
    (tmp_path / "b" / "data_batch_2").write_bytes(pickle.dumps(values, 5))
    with pytest.raises(InputError, match="_2' has 2 images of zeros, the first is image 3"):
        open_data(tmp_path / "b")


class Evil:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def stacked(module: str, name: str, *arguments: bytes) -> bytes:
    """Instructions that call `module.name`."""
    inside = b"".join(b"U" + bytes([len(a)]) + a for a in arguments)
    return f"c{module}\n{name}\n".encode() + b"(" + inside + b"tR."


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (pickle.dumps(Evil(os.mkdir, "made"), 2), "asks for (posix|nt).mkdir"),
        (pickle.dumps(Evil(eval, "open('made', 'w')"), 4), "asks for builtins.eval"),
        (stacked("os", "mkdir", b"made"), "asks for os.mkdir"),
        (stacked("numpy", "load", b"made"), "asks for numpy.load"),
        (stacked("numpy", "dtype.__class__", b"made"), "asks for numpy.dtype"),
        (stacked("numpy.core.multiarray", "fromfile", b"made"), "asks for numpy.fromfile"),
        (stacked("minialex.utils.plain_pickle", "load", b"made"), "asks for minialex"),
        (stacked("_codecs", "encode", b"a", b"rot13"), "holds bytes encoded as"),
        (pickle.dumps(np.array([Evil(os.mkdir, "made")]), 2), "asks for|array of 'O8'"),
        (pickle.dumps(np.zeros(3, "V8"), 2), "array of 'V8'"),
        (b"\x80\x02P0\n.", r"uses the instruction b'P'"),
        (b"(ios\nmkdir\n.", r"uses the instruction b'i'"),
        (b"\x80\x04cnumpy\nndarray\n)\x81.", r"uses the instruction b'\\x81'"),
        (b"\x80\x05\x96" + struct.pack("<Q", 1 << 60) + b".", "."),
        (b"\x80\x02]r\xff\xff\xff\x7f.", "a memo index of"),
        (b"\x80\x02]p2147483647\n.", "."),
        (b"I" + b"9" * 100_000 + b"\n.", "."),
        (b"", "."),
        (b"\x80\x02", "."),
    ],
)
def test_no_code_in_a_pickle_is_run(tmp_path, monkeypatch, content, reason):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data_batch_1").write_bytes(content)
    with pytest.raises(InputError, match=rf"data_batch_1' is not a plain pickle .*({reason})"):
        open_data(tmp_path)
    assert not (tmp_path / "made").exists()


def test_other_values_give_a_one_sentence_error(tmp_path):
    def refused(sentence, value=None, **changes):
        value = batch(7, **changes) if value is None else value
        (tmp_path / "data_batch_1").write_bytes(pickle.dumps(value, 2))
        with pytest.raises(InputError, match=sentence):
            open_data(tmp_path)

    refused("has no uint8 array `data`", value=[1, 2])
    refused("has no uint8 array `data`", data=np.zeros((48, 7)))
    refused("has no uint8 array `data`", data=[b"jpeg"])
    refused("has no uint8 array `data`", labels=None)
    refused("has no uint8 array `data`", labels=["cat"])
    refused(r"has 3 labels and `data` of shape \(48, 7\)", labels=[0, 1, 2])
    refused("of three square planes", data=np.zeros((47, 7), np.uint8))
    write(tmp_path, [1])
    refused("labels outside 0 to 2", labels=[0, 1, 2, 3, 0, 0, 0])
    refused("labels outside 0 to 2", labels=[0, 1, 2, -1, 0, 0, 0])
    (tmp_path / "batches.meta").write_bytes(pickle.dumps({"label_names": "abc"}, 2))
    refused("has no list `label_names`")
    (tmp_path / "batches.meta").write_bytes(pickle.dumps({"label_names": ["a", "a"]}, 2))
    refused("fewer than two different classes")
    (tmp_path / "data_batch_1").rename(tmp_path / "data_batch_1000")
    with pytest.raises(InputError, match="only validation batches"):
        open_data(tmp_path)


@pytest.mark.filterwarnings("ignore:invalid escape sequence")
@pytest.mark.parametrize("count", [300, pytest.param(20_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("dump", DUMPS.values(), ids=DUMPS)
def test_mutated_pickles_load_or_raise_input_error(tmp_path, dump, count):
    whole = dump(batch(7))
    rng = np.random.default_rng(0)
    path, read = tmp_path / "data_batch_1", 0
    for _ in range(count):
        data = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            data[rng.integers(len(data))] = rng.integers(256)
        path.write_bytes(data)
        try:
            plain_pickle.load(path)
            read += 1
        except InputError:
            continue
    assert 0 < read < count
