"""Packed data sets equal their source, whatever happens during packing."""

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import ilsvrc
from helpers.cli_tools import COMMAND

from minialex.data import statistics
from minialex.data.dataset import digest
from minialex.data.decode import images
from minialex.data.loading import retry
from minialex.data.packed import packing
from minialex.data.packed.dataset import verify
from minialex.data.packed.prepare import prepare
from minialex.data.sources.open import open_data, open_for_evaluation
from minialex.data.split import split
from minialex.errors import InputError
from minialex.utils import atomic
from minialex.utils.lock import lock

SIZE = 24


def pack(source, folder, **options):
    return prepare(source, folder, **{"size": SIZE, "progress": False, **options})


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def small_shards(monkeypatch):
    """Four images per shard, so that a dozen make several."""
    monkeypatch.setattr(packing, "SHARD_BYTES", 4 * SIZE * SIZE * 3)


@pytest.fixture(params=["folders", "archives", "kaggle", "shapes"])
def source(request, tmp_path, photos):
    if request.param == "archives":
        return ilsvrc.write_archives(tmp_path / "imagenet")
    if request.param == "kaggle":
        return ilsvrc.write_kaggle(tmp_path / "imagenet")
    return photos if request.param == "folders" else "shapes:60"


@pytest.mark.usefixtures("small_shards")
def test_every_source_is_packed_unchanged(source, tmp_path):
    done = pack(source, tmp_path / "packed", workers=3)
    before, after = open_data(source), open_data(tmp_path / "packed")
    for part in ("train", "val"):
        old, new = getattr(before, part), getattr(after, part)
        assert done.images[part] == len(new) == len(old)
        assert new.class_ids == old.class_ids
        assert new.class_names == old.class_names
        np.testing.assert_array_equal(new.labels, old.labels)
        assert new.labels.dtype == np.int64
        for i in range(len(new)):
            np.testing.assert_array_equal(new.image(i, SIZE), old.image(i, SIZE))
            assert Path(old.describe(i)).name in new.describe(i)
        squares = np.empty((len(new), SIZE, SIZE, 3), np.uint8)
        order = np.random.default_rng(0).permutation(len(new))
        new.copy_mapped(order, squares)
        for row, i in enumerate(order):
            np.testing.assert_array_equal(squares[row], old.image(int(i), SIZE))
        assert new.name == old.name
    measured = statistics.measure(before.train, SIZE)
    for field in ("mean", "colour_std", "colour_axes", "count"):
        np.testing.assert_array_equal(
            getattr(after.train.statistics, field), getattr(measured, field)
        )
    assert verify(tmp_path / "packed") == []
    assert len(open_for_evaluation(tmp_path / "packed")) == len(before.val)
    assert not list((tmp_path / "packed").glob("*.part"))


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("jpeg", [False, True])
def test_the_bytes_do_not_depend_on_the_workers(photos, tmp_path, jpeg):
    for workers in (1, 2, 7):
        pack(photos, tmp_path / f"{workers}", workers=workers, jpeg=jpeg)
    first = contents(tmp_path / "1")
    assert contents(tmp_path / "2") == contents(tmp_path / "7") == first
    assert sum(name.startswith("train-0") for name in first) == 3


def test_shards_are_numpy_files(photos, tmp_path):
    pack(photos, tmp_path / "packed")
    shard = np.load(tmp_path / "packed" / "train-00000.npy", mmap_mode="r", allow_pickle=False)
    assert shard.shape == (10, SIZE, SIZE, 3)
    assert shard.dtype == np.uint8
    np.testing.assert_array_equal(shard[3], open_data(photos).train.image(3, SIZE))
    labels = np.load(tmp_path / "packed" / "train-labels.npy", allow_pickle=False)
    assert labels.tolist() == [0] * 5 + [1] * 5
    names = np.load(tmp_path / "packed" / "train-names.npy", allow_pickle=False)
    assert names[9] == b"train/dog/4.JPEG"
    assert np.load(tmp_path / "packed" / "mean.npy").shape == (SIZE, SIZE, 3)


@pytest.mark.usefixtures("small_shards")
def test_jpeg_is_close_and_its_statistics_describe_decoded_pixels(tmp_path):
    done = pack("shapes:60", tmp_path / "packed", jpeg=True)
    before, after = open_data("shapes:60").train, open_data(tmp_path / "packed").train
    assert after.mapped_size is None
    differences = [
        np.abs(before.image(i, SIZE).astype(int) - after.image(i, SIZE)).mean() for i in range(60)
    ]
    assert 0 < max(differences) < 16  # of 255, in noise
    measured = statistics.measure(after, SIZE)
    np.testing.assert_array_equal(after.statistics.mean, measured.mean)
    np.testing.assert_array_equal(after.statistics.colour_axes, measured.colour_axes)
    assert done.bytes < 75 * SIZE * SIZE * 3
    assert verify(tmp_path / "packed") == []


def test_another_size_is_resized_and_measured(photos, tmp_path):
    pack(photos, tmp_path / "packed")
    train = open_data(tmp_path / "packed").train
    assert train.image(0, 12).shape == (12, 12, 3)
    assert statistics.supplied(train, SIZE) is train.statistics
    assert statistics.supplied(train, 12) is None
    assert statistics.supplied(open_data(photos).train, SIZE) is None
    assert statistics.supplied(split(train, 0.5, 0).train, SIZE) is None


@pytest.mark.usefixtures("slim_networks")
def test_training_does_not_measure_again(tmp_path, monkeypatch):
    import minialex
    from minialex.training import setup

    pack("shapes:48", tmp_path / "packed", size=72)
    tiny = {"model": "alexnet-64", "epochs": 1, "batch_size": 16, "progress": False}
    direct = minialex.train("shapes:48", out=tmp_path / "direct", **tiny)
    monkeypatch.setattr(setup, "measure", lambda *_, **__: pytest.fail("measured again"))
    result = minialex.train(tmp_path / "packed", out=tmp_path / "run", **tiny)
    for name in ("train_loss", "val_loss"):
        assert result.history[0][name] == direct.history[0][name]
    for index in (0, 5):
        assert result.classifier.class_names[index] == direct.classifier.class_names[index]
    assert minialex.evaluate(tmp_path / "run").loss == pytest.approx(result.history[0]["val_loss"])


@pytest.mark.usefixtures("small_shards")
def test_unusable_files_are_left_out_and_listed(photos, photo, tmp_path):
    for name, wnid in (("cat", "n00000001"), ("dog", "n00000002")):
        for part in ("train", "val"):
            (photos / part / name).rename(photos / part / wnid)
    cat, dog = sorted((photos / "train").iterdir())
    (cat / "3.JPEG").write_bytes((cat / "3.JPEG").read_bytes()[:-300])
    (cat / "0.JPEG").rename(cat / f"{dog.name}_7.JPEG")
    shutil.copy(cat / "1.JPEG", dog / "copy.JPEG")
    shutil.copy(dog / "2.JPEG", photos / "val" / dog.name / "copy.JPEG")
    done = pack(photos, tmp_path / "packed", max_left_out=0.2)
    assert done.images == {"train": 9, "val": 5}
    report = (tmp_path / "packed" / "report.txt").read_text()
    assert set(done.left_out) == {f"train/{cat.name}/3.JPEG", f"train/{cat.name}/{dog.name}_7.JPEG"}
    assert str(tmp_path) not in report
    assert "left out, because unreadable or mislabelled: 2" in report
    assert "3.JPEG cannot be read as an image" in report
    assert f"its name says {dog.name}, but it is in {cat.name}" in report
    assert "the same image under two labels, so one is mislabelled: 1" in report
    assert f"1.JPEG = train/{dog.name}/copy.JPEG, as {cat.name} and {dog.name}" in report
    assert "train/val leakage, the same image in train and val: 1" in report
    train = open_data(tmp_path / "packed").train
    assert train.labels.tolist() == [0] * 3 + [1] * 6
    whole = open_data(photos).train
    kept = [
        i
        for i in range(len(whole))
        if whole.files[i].split("/")[1] not in ("3.JPEG", f"{dog.name}_7.JPEG")
        or whole.labels[i] == 1
    ]
    for row, i in enumerate(kept):
        np.testing.assert_array_equal(train.image(row, SIZE), whole.image(i, SIZE))
    measured = statistics.measure(train, SIZE)
    np.testing.assert_array_equal(train.statistics.mean, measured.mean)

    with pytest.raises(InputError, match=r"2 of 16 images are unreadable .* fraction of 0\.1 that"):
        pack(photos, tmp_path / "strict", max_left_out=0.1)
    assert "3.JPEG" in (tmp_path / "strict" / "report.txt").read_text()
    allowed = pack(photos, tmp_path / "strict", max_left_out=0.2)  # as the sentence advises
    assert allowed.images == done.images
    again = pack(photos, tmp_path / "strict", max_left_out=0.2)
    assert again == allowed  # with the images left out, from the manifest


def test_the_report_is_there_when_no_image_of_a_part_can_be_used(photos, tmp_path):
    other = {"n00000001": "n00000002", "n00000002": "n00000001"}
    for name, wnid in zip(("cat", "dog"), other, strict=True):
        for part in ("train", "val"):
            (photos / part / name).rename(photos / part / wnid)
    for path in (photos / "val").glob("*/*"):
        path.rename(path.with_name(f"{other[path.parent.name]}_{path.name}"))
    with pytest.raises(InputError, match=r"no image of val can be used: see .*report\.txt"):
        pack(photos, tmp_path / "packed", max_left_out=1)
    report = (tmp_path / "packed" / "report.txt").read_text()
    assert (
        "n00000002_0.JPEG: mislabelled: its name says n00000002, but it is in n00000001" in report
    )


def test_all_unusable_files_are_named_at_once(photos, tmp_path):
    for name in ("train/cat/1.JPEG", "train/dog/4.JPEG", "val/dog/0.JPEG"):
        (photos / name).write_bytes(b"")
    with pytest.raises(InputError, match="3 of 14 images are unreadable"):
        pack(photos, tmp_path / "packed", max_left_out=0)
    report = (tmp_path / "packed" / "report.txt").read_text()
    for name in ("train/cat/1.JPEG", "train/dog/4.JPEG", "val/dog/0.JPEG"):
        assert f"{name} is not an image that Pillow can read: it is empty" in report


@pytest.mark.usefixtures("small_shards")
def test_a_drive_error_leaves_no_image_out(photos, tmp_path, monkeypatch):
    pack(photos, tmp_path / "whole")
    monkeypatch.setattr(retry, "PAUSES", (0.0, 0.0))
    load, failures = images.load_resized, {"0.JPEG": 2, "4.JPEG": 99}

    def unreliable(source, size, name=""):
        key = f"{Path(source).name}"
        if size == SIZE and "dog" in str(source) and failures.get(key, 0):
            failures[key] -= 1
            raise OSError(errno.EIO, "Input/output error", str(source))
        return load(source, size, name)

    monkeypatch.setattr(images, "load_resized", unreliable)
    with pytest.raises(OSError, match=r"the drive failed .* run the same command again.*4\.JPEG"):
        pack(photos, tmp_path / "packed", workers=1)
    failures.clear()
    assert pack(photos, tmp_path / "packed").left_out == {}
    assert contents(tmp_path / "packed") == contents(tmp_path / "whole")


def test_ignored_entries_of_archives_are_listed(tmp_path):
    root = ilsvrc.write_archives(tmp_path / "imagenet")
    inner = {**ilsvrc.class_tars(), "notes.txt": b"hello"}
    (root / "ILSVRC2012_img_train.tar").write_bytes(ilsvrc.tar_bytes(inner))
    pack(root, tmp_path / "packed")
    report = (tmp_path / "packed" / "report.txt").read_text()
    assert "left out: .txt files, not images: 1\n  notes.txt" in report


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("jpeg", [False, True])
def test_it_continues_after_any_failure(photos, tmp_path, monkeypatch, jpeg):
    """Fail at each image in turn, at each save and each rename; end with the same bytes."""
    pack(photos, tmp_path / "whole", jpeg=jpeg)
    whole = contents(tmp_path / "whole")
    write, save, replace = packing.write_file, packing.PrepareState.save, os.replace
    target = tmp_path / "packed"
    failures = []

    def fails_at(number, function):
        calls = iter(range(1, 1000))

        def wrapped(*arguments):
            if next(calls) == number:
                failures.append(number)
                raise RuntimeError("killed")
            return function(*arguments)

        return wrapped

    for number in (1, 2, 4, 5):
        for owner, name, function in (
            (packing, "write_file", write),
            (packing.PrepareState, "save", save),
            (os, "replace", replace),
        ):
            with monkeypatch.context() as patch:
                patch.setattr(owner, name, fails_at(number, function))
                with contextlib.suppress(RuntimeError):
                    pack(photos, target, jpeg=jpeg)
    assert len(failures) >= 6
    pack(photos, target, jpeg=jpeg)
    assert contents(target) == whole
    pack(photos, target, jpeg=jpeg)  # and again: nothing is left to do
    assert contents(target) == whole


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """400 drawings, packed without an interruption."""
    target = tmp_path_factory.mktemp("whole") / "packed"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "SHARD_BYTES", 60 * 64 * 64 * 3)
        pack("shapes:400", target, size=64)
    return target


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_process_continues(tmp_path, number, whole):
    """Real kills at random moments, several times until it is done."""
    target = tmp_path / "packed"
    script = (
        "import sys; from minialex.data.packed import packing; from minialex.cli.main import main\n"
        "packing.SHARD_BYTES = 60 * 64 * 64 * 3\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    line = [COMMAND[0], "-c", script, "prepare", "shapes:400", str(target), "--size", "64"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        deadline = time.monotonic() + 60
        while not (target / packing.STATE).exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        run.send_signal(number)
        output = run.communicate(timeout=60)
    if number != signal.SIGKILL and run.returncode != 0:
        assert run.returncode == 128 + number
        assert b"run the same command again" in output[0]
    subprocess.run(line, check=True, capture_output=True)
    assert contents(target) == contents(whole)


def test_disk_use_is_stated_and_checked(photos, tmp_path, monkeypatch, capsys):
    usage = shutil.disk_usage(tmp_path)
    prepare(photos, tmp_path / "packed", size=SIZE)
    needed = 14 * (SIZE * SIZE * 3 + 128) + SIZE * SIZE * 36
    assert f"needs another {needed / 1e3:.0f} kB; " in capsys.readouterr().out
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed - 1))
    with pytest.raises(InputError, match=r"the packed data needs 47 kB, but .* has 47 kB free"):
        pack(photos, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def onto_a_full_disk(_, mode):
    return open("/dev/full", mode)


@pytest.mark.usefixtures("small_shards")
def test_a_full_disk_keeps_finished_shards(photos, tmp_path, monkeypatch):
    pack(photos, tmp_path / "whole")
    write = packing.write_file

    def full(path, blocks):
        with monkeypatch.context() as patch:
            if path.name == "train-00002.npy":
                patch.setattr(atomic, "open", onto_a_full_disk, raising=False)
            return write(path, blocks)

    if Path("/dev/full").exists():
        with monkeypatch.context() as patch:
            patch.setattr(packing, "write_file", full)
            with pytest.raises(OSError, match=r"no room to write .*train-00002\.npy"):
                pack(photos, tmp_path / "packed")
        assert (tmp_path / "packed" / "train-00001.npy").exists()
        pack(photos, tmp_path / "packed")
        assert contents(tmp_path / "packed") == contents(tmp_path / "whole")


def test_unusable_requests_give_a_one_sentence_error(photos, tmp_path):
    def refused(sentence, source=photos, folder=tmp_path / "new", **options):
        with pytest.raises(InputError, match=sentence):
            pack(source, folder, **options)

    refused("size is 4: it must be a whole number of at least 8 and at most 4096", size=4)
    refused("size is '64'", size="64")
    refused("quality is 96", jpeg=True, quality=96)
    refused("max_left_out is 2", max_left_out=2)
    refused("workers is 0", workers=0)
    refused("would be written into its source", folder=photos)
    refused("contains other files", folder=photos / "train")
    refused("is a file: choose a new folder", folder=photos / "train" / "cat" / "0.JPEG")
    pack(photos, tmp_path / "packed")
    refused("of other images or options", folder=tmp_path / "packed", size=32)
    refused("of other images or options", source="shapes:60", folder=tmp_path / "packed")
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / packing.STATE).write_bytes(b"nothing")
    refused("damaged", folder=tmp_path / "begun")


@pytest.mark.usefixtures("small_shards")
def test_a_changed_source_is_not_mixed_in(photos, photo, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(packing, "write_file", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pack(photos, tmp_path / "packed")
    assert packing.PrepareState.load(tmp_path / "packed").parts["train"].done == 0
    with monkeypatch.context() as patch:
        patch.setattr(packing, "write_file", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):  # of other options, as nothing is done yet
            pack(photos, tmp_path / "packed", size=32)
    write, done = packing.write_file, []

    def second(path, blocks):
        done.append(1)
        return write(path, blocks) if len(done) == 1 else 1 / 0

    with monkeypatch.context() as patch:
        patch.setattr(packing, "write_file", second)
        with pytest.raises(ZeroDivisionError):
            pack(photos, tmp_path / "packed")
    photo(photos / "train" / "cat" / "new.jpg", 99)
    with pytest.raises(InputError, match="started with other images or options"):
        pack(photos, tmp_path / "packed")


@pytest.mark.parametrize("locks", [True, False])
def test_two_processes_at_once_are_refused(photos, tmp_path, monkeypatch, locks):
    def refuse(descriptor, how):
        raise OSError(errno.ENOLCK, "No locks available")

    (tmp_path / "packed").mkdir()
    if not locks:
        monkeypatch.setattr("fcntl.flock", refuse)
    with (
        lock(tmp_path / "packed", "busy"),
        pytest.raises(InputError, match="another process is packing"),
    ):
        pack(photos, tmp_path / "packed")


def test_the_manifest_counts_images(photos, tmp_path):
    pack(photos, tmp_path / "packed")
    manifest = json.loads((tmp_path / "packed" / "manifest.json").read_text())
    assert manifest["parts"]["train"]["per_class"] == [5, 5]
    assert manifest["parts"]["val"]["images"] == 4
    assert manifest["size"] == SIZE
    assert manifest["decoder"].startswith("Pillow ")


def test_real_photographs_are_packed(shared_data, tmp_path):
    done = prepare(shared_data / "clothing", tmp_path / "packed", size=64, progress=False)
    assert done.images == {"train": 341, "val": 372}
    before, after = open_data(shared_data / "clothing").val, open_data(tmp_path / "packed").val
    for i in range(0, 372, 40):
        np.testing.assert_array_equal(before.image(i, 64), after.image(i, 64))


def test_enlarging_small_images_is_announced(photos, tmp_path, capsys):
    for size, word in ((60, ""), (61, "30 pixels wide: --size 30")):
        pack(photos, tmp_path / str(size), size=size, progress=True)
        said = capsys.readouterr().out
        assert ("pixels wide" in said) == bool(word)
        assert word in said


@pytest.mark.parametrize(
    "name",
    ["report.txt", "train-00000.npy", "val-notes.npy", "film.part", ".thesis.me-1.part"],
)
def test_files_of_other_programs_are_not_touched(photos, tmp_path, name):
    (tmp_path / "packed").mkdir()
    mine = tmp_path / "packed" / name
    mine.write_bytes(b"a year's work")
    with pytest.raises(InputError, match="contains other files"):
        pack(photos, tmp_path / "packed")
    assert contents(tmp_path / "packed") == {name: b"a year's work"}


def test_files_beside_an_unfinished_set_are_left_alone(photos, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(packing, "write_file", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pack(photos, tmp_path / "packed")
    (tmp_path / "packed" / "film.part").write_bytes(b"half a film")
    left = tmp_path / "packed" / ".val-00000.npy.some_host-12.part"
    left.write_bytes(b"half a shard")
    pack(photos, tmp_path / "packed")
    assert (tmp_path / "packed" / "film.part").read_bytes() == b"half a film"
    assert not left.exists()


@pytest.mark.parametrize("chained", [False, True])
def test_a_packed_set_records_its_source(photos, tmp_path, chained):
    pack(photos, tmp_path / "packed")
    if chained:
        pack(tmp_path / "packed", tmp_path / "again", size=16)
    packed, source = open_data(tmp_path / ("again" if chained else "packed")), open_data(photos)
    for part, of_part in source.parts.items():
        for index in range(len(of_part)):
            content = of_part.content(index)
            assert packed.parts[part].content_digest(index) == digest(content)
            assert packed.parts[part].content_size(index) == len(content)
