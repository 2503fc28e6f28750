"""Weight files: round trips, foreign files refused, failures and kills survived."""

import errno
import json
import os
import random
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load_file, save_file

from minialex.errors import InputError
from minialex.utils import atomic, checkpoint

TENSORS = {
    "conv1.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "fc8.bias": np.array([1.5, -2.5]),
    "mask": np.array([True, False, True]),
    "none": np.zeros((0, 3), np.float32),
    "scalar": np.array(7, np.int64),
}
METADATA = {"model": {"name": "alexnet"}, "class_names": ["tench", "Ärger"], "rate": 1e-3}


@pytest.fixture
def saved(tmp_path) -> Path:
    checkpoint.save(tmp_path / "w.safetensors", TENSORS, METADATA)
    return tmp_path / "w.safetensors"


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype.newbyteorder("=")
        assert found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array)


# ------------------------------------------------------------------------------------ round trips


def test_save_and_load_round_trip(saved):
    tensors, metadata = checkpoint.load(saved)
    assert_same(tensors, TENSORS)
    assert metadata == {"format": 1, **METADATA}
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_metadata_too_long_for_a_header(tmp_path, monkeypatch):
    path, names = tmp_path / "w.safetensors", {"names": [f'"{i}" é' for i in range(999)]}
    monkeypatch.setattr(checkpoint, "_MOST_HEADER", 3000)
    for metadata in (METADATA, {**METADATA, **names}):
        checkpoint.save(path, TENSORS, metadata)
        assert int.from_bytes(path.read_bytes()[:8], "little") < 3000
        tensors, found = checkpoint.load(path)
        assert_same(tensors, TENSORS)
        assert found == checkpoint.load_metadata(path) == {"format": 1, **metadata}


def test_the_library_reads_the_longest_header(tmp_path):
    path = tmp_path / "w.safetensors"
    for count in (12_000_000, 26_000_000):  # quotes: four bytes each in a header
        text = '"' * count
        checkpoint.save(path, {"a": np.zeros(1)}, {"text": text})
        assert checkpoint.load_metadata(path)["text"] == text


def test_the_safetensors_library_reads_it(saved):
    assert_same(load_file(saved), TENSORS)


names = st.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__")
dtypes = st.sampled_from(["?", "u1", "i1", "<i4", "<i8", "<u4", "<u8", "<f2", "<f4", "<f8", ">f4"])
any_array = dtypes.flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=0, min_side=0)))


@settings(max_examples=60, deadline=None)
@given(tensors=st.dictionaries(names, any_array, max_size=5), transpose=st.booleans())
def test_any_arrays_make_the_round_trip(tmp_path_factory, tensors, transpose):
    path = tmp_path_factory.mktemp("any") / "w"
    tensors = {name: array.T if transpose else array for name, array in tensors.items()}
    checkpoint.save(path, tensors, {})
    assert_same(checkpoint.load(path)[0], tensors)


def test_text_and_json_replace_the_old_file(tmp_path):
    path = tmp_path / "config.json"
    atomic.write_text(path, "old")
    atomic.write_json(path, {"seed": 3})
    assert json.loads(path.read_text()) == {"seed": 3}
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


# ------------------------------------------------------------------------------------ not ours


def refused(path) -> str:
    """The error message with which `load` refuses a file; no other exception may escape."""
    with pytest.raises(InputError) as caught:
        checkpoint.load(path)
    sentence = str(caught.value)
    assert str(path) in sentence
    assert "\n" not in sentence
    return sentence


def test_foreign_files_are_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"a": np.zeros(3)}, path)
    assert "not a weight file of minialex" in refused(path)
    save_file({"a": np.zeros(3)}, path, metadata={"minialex": "{"})
    assert "damaged" in refused(path)
    save_file({"a": np.zeros(3)}, path, metadata={"minialex": "[" * 100_000})
    assert "damaged" in refused(path)
    save_file({"a": np.zeros(3)}, path, metadata={"minialex": '{"format": 3}'})
    assert "has format 3, but this minialex reads only up to 2: upgrade" in refused(path)
    save_file({"a": np.zeros(3)}, path, metadata={"minialex": '{"format": 2}'})
    assert "is damaged or not a weight file (" in refused(path)
    save_file({"a": np.zeros(3)}, path, metadata={"minialex": "[]"})
    assert "has format None" in refused(path)
    assert "folder" in refused(tmp_path)
    for content in (b"", b"\x80\x04K\x01.", b"PK\x03\x04" * 9, b"\xff" * 64):
        path.write_bytes(content)
        assert "damaged" in refused(path)
    with pytest.raises(FileNotFoundError, match="no weight file"):
        checkpoint.load(tmp_path / "missing")


def test_every_truncation_is_refused(saved):
    content = saved.read_bytes()
    for length in range(len(content)):
        saved.write_bytes(content[:length])
        refused(saved)


@pytest.mark.parametrize("count", [600, pytest.param(3000, marks=pytest.mark.slow)])
def test_mutated_files_load_or_raise_input_error(saved, count):
    draw, content = random.Random(7), saved.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    outcomes = {"loaded": 0, "refused": 0}
    for _ in range(count):
        mutated = bytearray(content)
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(header if draw.random() < 0.9 else len(mutated))
            match draw.randrange(4):
                case 0:
                    mutated[at] ^= 1 << draw.randrange(8)
                case 1:
                    mutated[at] = draw.choice(b'0123456789"{}[],:')
                case 2:
                    del mutated[at : at + draw.randint(1, 8)]
                case 3:
                    mutated[at:at] = draw.randbytes(draw.randint(1, 8))
        saved.write_bytes(mutated)
        try:
            checkpoint.load(saved)
            outcomes["loaded"] += 1
        except InputError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > count // 100  # some mutations hit only numbers, most do not


# ------------------------------------------------------------------------------------ failing disks


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_a_failing_write_leaves_the_old_file_and_nothing_else(saved, monkeypatch, call, number):
    def fail(*arguments):
        raise OSError(number, os.strerror(number))

    before = saved.read_bytes()
    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="write") as caught:
        checkpoint.save(saved, {"a": np.zeros(1000)}, {})
    assert caught.value.errno == number
    assert str(saved) in caught.value.strerror
    assert ("8,1" in caught.value.strerror) == (number == errno.ENOSPC)  # bytes it needs
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="choose a folder"):
        atomic.write_text(tmp_path / "none" / "x.txt", "x")


@pytest.mark.skipif(os.name != "posix", reason="another error there")
def test_a_folder_in_place_of_a_file_is_named(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(IsADirectoryError, match="is a folder: give a file in it"):
        atomic.write_text(tmp_path / "x", "x")


def test_an_interrupt_while_writing_leaves_nothing(saved, monkeypatch):
    def interrupt(descriptor):
        raise KeyboardInterrupt

    before = saved.read_bytes()
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(saved, TENSORS, {})
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_files_of_killed_processes_are_removed_in_time(saved):
    old, new = (saved.with_name(f".{saved.name}.{pid}.part") for pid in (1, 2))
    old.touch()
    new.touch()
    os.utime(old, (time.time() - 3600, time.time() - 3600))
    checkpoint.save(saved, TENSORS, {})
    assert not old.exists()
    assert new.exists()


def test_files_of_ended_processes_are_removed_at_once(saved):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    host = atomic.this_host()
    names = [(host, ended.pid), (host, os.getppid()), ("elsewhere", ended.pid)]
    parts = [saved.with_name(f".{saved.name}.{h}-{pid}.part") for h, pid in names]
    for part in parts:
        part.touch()
    checkpoint.save(saved, TENSORS, {})
    assert [part.exists() for part in parts] == [False, True, True]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EACCES])
def test_a_share_that_cannot_flush_folders_is_written_to(saved, monkeypatch, number):
    fsync = os.fsync

    def refused(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refused)
    checkpoint.save(saved, TENSORS, {"state": 1})
    assert checkpoint.load_metadata(saved)["state"] == 1


# ------------------------------------------------------------------------------------ kills

WRITER = """
import sys, numpy as np
from pathlib import Path
from minialex.utils import checkpoint
path, number = Path(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
while True:
    number += 1
    tensors = {f"t{i}": np.full(50_000, number, np.float32) for i in range(8)}
    checkpoint.save(path, tensors, {"number": number})
"""


IN_PLACE = """
import time
from minialex.utils import checkpoint
def write(path, blocks):
    with open(path, "wb") as file:
        for block in blocks:
            file.write(block)
            file.flush()
            time.sleep(0.001)
checkpoint.write_blocks = write
"""


def kill_while_saving(path, kills, seed, before=""):
    """Repeatedly kill a process that saves in a loop; returns the newest number saved."""
    draw, number = random.Random(seed), 0
    for _ in range(kills):
        command = [sys.executable, "-c", before + WRITER, str(path), str(number)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "ready\n"
            time.sleep(draw.uniform(0.0, 0.1))
            process.send_signal(signal.SIGKILL)
        if path.exists():
            tensors, metadata = checkpoint.load(path)
            assert metadata["number"] >= number
            number = metadata["number"]
            assert len(tensors) == 8
            for array in tensors.values():
                np.testing.assert_array_equal(array, np.full(50_000, number, np.float32))
    return number


def test_a_kill_at_any_moment_leaves_a_complete_file(tmp_path):
    assert kill_while_saving(tmp_path / "w.safetensors", kills=25, seed=1) > 25


def test_the_kill_test_detects_in_place_writing(tmp_path):
    with pytest.raises(InputError, match="damaged"):
        kill_while_saving(tmp_path / "w.safetensors", kills=25, seed=1, before=IN_PLACE)


@pytest.mark.slow
def test_four_hundred_kills_leave_complete_files(tmp_path):
    assert kill_while_saving(tmp_path / "w.safetensors", kills=400, seed=2) > 400
