import numpy as np
import pytest

from minialex.data.sources.open import open_data
from minialex.errors import InputError

RECORD = 3073


def write_batch(path, count, seed, **changes):
    records = np.random.default_rng(seed).integers(0, 256, (count, RECORD), np.uint8)
    records[:, 0] = np.arange(count) % 10
    for row, label in changes.get("labels", {}).items():
        records[row, 0] = label
    path.write_bytes(records.tobytes())
    return records


@pytest.fixture
def folder(tmp_path):
    for number in (1, 2, 10):
        write_batch(tmp_path / f"data_batch_{number}.bin", 20, number)
    write_batch(tmp_path / "test_batch.bin", 10, 0)
    names = "airplane automobile bird cat deer dog frog horse ship truck"
    (tmp_path / "batches.meta.txt").write_text("\n".join(names.split()) + "\n\n")
    return tmp_path


def test_records_in_plane_order(folder):
    splits = open_data(folder)
    assert (len(splits.train), len(splits.val)) == (60, 10)
    assert splits.train.native_size == 32
    assert splits.train.class_names[9] == "truck"
    raw = np.frombuffer((folder / "data_batch_10.bin").read_bytes(), np.uint8)
    record = raw.reshape(20, RECORD)[7]
    image = splits.train.image(47, 32)  # the third file by number, not by name
    for y, x, c in ((0, 0, 0), (3, 30, 1), (31, 31, 2)):
        assert image[y, x, c] == record[1 + c * 1024 + y * 32 + x]
    assert splits.train.labels[47] == record[0]
    assert splits.train.describe(47) == f"{folder.resolve() / 'data_batch_10.bin'}, record 7"
    assert splits.train.image(0, 64).shape == (64, 64, 3)
    with pytest.raises(IndexError):
        splits.train.image(60, 32)


def test_without_a_test_batch_the_seed_splits(folder):
    (folder / "test_batch.bin").unlink()
    (folder / "batches.meta.txt").unlink()
    splits = open_data(folder, val_fraction=0.5)
    assert len(splits.train) + len(splits.val) == 60
    assert set(splits.train.labels) == set(splits.val.labels) == set(range(10))
    assert splits.val.native_size == 32


@pytest.mark.parametrize("length", [0, 100, 10 * RECORD - 1])
def test_an_incomplete_file_is_refused(folder, length):
    path = folder / "test_batch.bin"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(InputError, match=rf"test_batch\.bin' has {length:,} bytes"):
        open_data(folder)


def test_a_label_beyond_nine_is_refused(folder):
    write_batch(folder / "data_batch_2.bin", 20, 2, labels={3: 10})
    with pytest.raises(InputError, match=r"data_batch_2\.bin' has a record labelled 10"):
        open_data(folder)


def test_names_that_do_not_fit_are_refused(folder):
    (folder / "batches.meta.txt").write_text("cat dog")
    with pytest.raises(InputError, match="names 2 classes"):
        open_data(folder)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_names_may_be_saved_by_a_windows_editor(folder, encoding):
    path = folder / "batches.meta.txt"
    path.write_text(path.read_text(), encoding=encoding)
    assert open_data(folder).train.class_ids[:2] == ("airplane", "automobile")


def test_a_test_batch_alone_is_refused(folder):
    for path in folder.glob("data_batch_*"):
        path.unlink()
    with pytest.raises(InputError, match=r"no data_batch_\*\.bin"):
        open_data(folder)


@pytest.mark.parametrize(
    ("start", "length", "sentence"),
    [
        (3 * RECORD, RECORD, "has 1 records of zeros, the first is record 3"),
        (4096, 8192, "has 1 records of zeros, the first is record 2"),
        (8192, 4096, "has only zeros from byte 8,192 on"),
    ],
)
def test_a_hole_of_zeros_is_not_read_as_black_aeroplanes(folder, start, length, sentence):
    path = folder / "data_batch_2.bin"
    content = bytearray(path.read_bytes())
    content[start : start + length] = bytes(length)
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"data_batch_2\.bin' {sentence}"):
        open_data(folder)


def test_cifar_100(tmp_path):
    rng, names = np.random.default_rng(0), [f"name_{k}" for k in range(100)]
    for part, count in (("train", 300), ("test", 200)):
        records = rng.integers(0, 256, (count, RECORD + 1), np.uint8)
        records[:, 0], records[:, 1] = np.arange(count) % 20, np.arange(count) % 100
        (tmp_path / f"{part}.bin").write_bytes(records.tobytes())
    (tmp_path / "fine_label_names.txt").write_text("\n".join(names))
    splits = open_data(tmp_path)
    assert (len(splits.train), len(splits.val)) == (300, 200)
    assert splits.train.class_names == tuple(names)
    assert splits.val.labels.tolist() == [*range(100)] * 2
    image = splits.val.image(137, 32)
    assert image[31, 30, 2] == records[137, 2 + 2 * 1024 + 31 * 32 + 30]
    (tmp_path / "train.bin").write_bytes(records[:, 1:].tobytes())
    with pytest.raises(InputError, match="not a multiple of the 3,074 of a CIFAR-100 record"):
        open_data(tmp_path)


def test_real_records_are_read(shared_data):
    splits = open_data(shared_data / "cifar-10-batches-bin")
    assert (len(splits.train), len(splits.val)) == (10_000, 5_000)
    assert np.bincount(splits.train.labels).tolist() == [1000] * 10
    assert splits.train.class_names[0] == "airplane"
    # Planes read as rows would differ between neighbours far more than pictures do.
    image = splits.train.image(0, 32).astype(int)
    assert np.abs(np.diff(image, axis=0)).mean() < 40
    assert np.abs(np.diff(image, axis=1)).mean() < 40
