import errno
import gc
import re
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minialex.data.dataset import Dataset
from minialex.data.loading import loader, retry, workers
from minialex.data.loading.loader import Loader
from minialex.data.loading.workers import Workers
from minialex.errors import InputError

SIZE = 2


def loader_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("minialex-loader")]


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    yield
    assert loader_threads() == []


@given(
    count=st.integers(0, 60),
    batch_size=st.integers(1, 70),
    workers=st.integers(1, 5),
    ahead=st.none() | st.integers(0, 80),
    cached=st.integers(0, 70),
    seed=st.integers(0, 2**32),
    data=st.data(),
)
def test_each_readable_image_once_and_in_order(
    numbered, count, batch_size, workers, ahead, cached, seed, data
):
    broken = data.draw(st.sets(st.integers(0, max(count - 1, 0)), max_size=count // 2))
    order = np.random.default_rng(seed).permutation(count)
    cache_bytes = cached * SIZE * SIZE * 3
    load = Loader(
        numbered(count, broken), SIZE, workers=workers, ahead=ahead, cache_bytes=cache_bytes
    )
    for _ in range(2):  # the second time partly from the cache
        batches = list(load.batches(order, batch_size))
        indices = [i for b in batches for i in b.indices.tolist()]
        assert indices == [i for i in order.tolist() if i not in broken]
        for b in batches:
            assert 0 < len(b) <= batch_size
            assert b.images.shape == (len(b), SIZE, SIZE, 3)
            assert (b.images == (b.indices % 256)[:, None, None, None]).all()
            np.testing.assert_array_equal(b.labels, b.indices % 3)
            np.testing.assert_array_equal(order[b.positions], b.indices)
            np.testing.assert_array_equal((b.positions // batch_size), (b.end - 1) // batch_size)
        assert load.skipped == {f"number {i}": f"number {i} is broken" for i in broken}


@given(st.integers(1, 50), st.integers(1, 20), st.integers(0, 5))
def test_an_epoch_continues_where_a_batch_ended(numbered, count, batch_size, stop):
    order = np.arange(count)[::-1]
    load = Loader(numbered(count), SIZE, workers=2, cache_bytes=0)
    whole = list(load.batches(order, batch_size))
    done = whole[:stop]
    rest = list(load.batches(order, batch_size, first=done[-1].end if done else 0))
    assert [b.positions.tolist() for b in done + rest] == [b.positions.tolist() for b in whole]


@given(st.integers(1, 40), st.integers(1, 10), st.integers(0, 5))
def test_an_iterator_left_partway_leaves_no_thread(numbered, count, batch_size, taken):
    batches = Loader(numbered(count), SIZE, workers=3).batches(np.arange(count), batch_size)
    for _, _ in zip(range(taken), batches, strict=False):
        pass
    batches.close()
    assert loader_threads() == []


def test_a_forgotten_iterator_leaves_no_thread(numbered):
    next(Loader(numbered(40), SIZE, workers=3).batches(np.arange(40), 4))
    gc.collect()
    assert loader_threads() == []


def test_an_interrupt_in_the_consumer_leaves_no_thread(numbered):
    def consume():
        for _ in Loader(numbered(40), SIZE, workers=3).batches(np.arange(40), 4):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        consume()
    gc.collect()


def test_a_drive_that_fails_behind_good_images_is_named_by_a_later_batch():
    """Threads that read ahead meet it first."""

    class Failing(Own):
        def image(self, index, size):
            if index >= 2:
                raise OSError(errno.EIO, "Input/output error")
            return super().image(index, size)

    dataset = Failing(np.zeros((SIZE, SIZE, 3), np.uint8))
    dataset.labels = np.zeros(200, np.int64)
    load = Loader(dataset, SIZE, workers=1, ahead=150, cache_bytes=0, sleep=lambda _: None)
    batches = load.batches(np.arange(200), 2)
    threading.Event().wait(0.2)
    first = next(batches)
    deadline = time.monotonic() + 60
    while load._failures < loader.MANY and time.monotonic() < deadline:
        time.sleep(0.001)
    assert len(first) == 2
    with pytest.raises(InputError, match="the drive failed"):
        list(batches)


def test_a_rank_notices_that_most_of_its_images_are_unreadable(numbered):
    """It reads a part of the order."""
    load = Loader(numbered(200, broken=range(200)), SIZE, workers=1, cache_bytes=0)
    spans = [(start, start + 10) for start in range(0, 200, 20)]
    with pytest.raises(InputError, match="cannot be read"):
        list(load.batches(np.arange(200), 10, spans=spans))


def test_images_are_read_ahead_within_a_limit(numbered):
    dataset = numbered(100)
    batches = Loader(dataset, SIZE, workers=2, ahead=12, cache_bytes=0).batches(np.arange(100), 8)
    next(batches)
    deadline = time.monotonic() + 60
    while len(dataset.reads) < 20 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.02)
    assert sorted(dataset.reads) == list(range(20))
    batches.close()


def test_the_cache_is_bounded_and_avoids_reads(numbered):
    dataset = numbered(30)
    load = Loader(dataset, SIZE, workers=2, cache_bytes=10 * SIZE * SIZE * 3)
    for _ in range(3):
        list(load.batches(np.arange(30), 8))
    assert len(dataset.reads) in (30 + 2 * 20, 30 + 2 * 19)  # the second thread may add one more
    dataset = numbered(30)
    load = Loader(dataset, SIZE)
    for _ in range(3):
        list(load.batches(np.arange(30), 8))
    assert len(dataset.reads) == 30


def test_mostly_unreadable_data_ends_the_epoch(numbered):
    load = Loader(numbered(20, broken=range(11)), SIZE)
    with pytest.raises(InputError, match=r"11 of 20 images of 'numbered' .* number 0 is broken"):
        list(load.batches(np.arange(20), 4))
    list(Loader(numbered(20, broken=range(10)), SIZE).batches(np.arange(20), 4))


def test_a_bug_keeps_its_exception_type(numbered):
    dataset = numbered(10)
    dataset.image = lambda index, size: 1 / 0
    with pytest.raises(ZeroDivisionError):
        list(Loader(dataset, SIZE).batches(np.arange(10), 4))


def test_waiting_is_measured(numbered, monkeypatch):
    """With a clock that runs only while the consumer waits for an image being read."""
    dataset, waiting, clock = numbered(4), threading.Event(), [7.0]
    quick, result = dataset.image, Workers.result

    def image(index, size):
        assert waiting.wait(60)
        clock[0] += 0.5
        return quick(index, size)

    def waits(self, future):
        waiting.set()
        return result(self, future)

    dataset.image = image
    monkeypatch.setattr(Workers, "result", waits)
    monkeypatch.setattr(loader, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    load = Loader(dataset, SIZE, workers=1)
    list(load.batches(np.arange(4), 4))
    assert load.wait_seconds == 2.0


def test_images_read_ahead_are_not_read_again(numbered):
    dataset = numbered(12, broken=[1])
    load = Loader(dataset, SIZE, cache_bytes=0)
    order = np.arange(12)[::-1]
    load.read_ahead(order[:8])
    deadline = time.monotonic() + 60
    while len(dataset.reads) < 8 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sorted(dataset.reads) == sorted(order[:8])
    delivered = np.concatenate([batch.indices for batch in load.batches(order, 3)])
    assert delivered.tolist() == [i for i in order if i != 1]
    assert sorted(dataset.reads) == list(range(12))
    list(load.batches(order, 3))
    assert len(dataset.reads) == 24  # and it is read again for the next epoch


def test_workers_must_be_positive(numbered):
    with pytest.raises(InputError, match="workers is 0"):
        Loader(numbered(4), SIZE, workers=0)


def test_the_default_cache_is_a_quarter_of_memory_at_most():
    assert 0 < loader.default_cache_bytes() <= 2 << 30


def test_a_photograph_cut_short_is_skipped_and_named(photos):
    from minialex.data.sources.open import open_data

    cut = photos / "train" / "cat" / "3.JPEG"
    cut.write_bytes(cut.read_bytes()[:-300])
    load = Loader(open_data(photos).train, 16)
    batches = list(load.batches(np.arange(10), 4))
    assert sum(len(b) for b in batches) == 9
    (description,) = load.skipped
    assert description == str(cut)
    assert "truncated" in load.skipped[description]


def held(numbered, index=6):
    """A data set whose image `index` is not finished until the event is set; see `finished`."""
    release = threading.Event()
    dataset = numbered(40)
    dataset.finished = set()
    quick = dataset.image

    def image(i, size):
        if i == index:
            release.wait(60)  # only reached in a failing test
        dataset.finished.add(i)
        return quick(i, size)

    dataset.image = image
    return dataset, release


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("early", [False, True])
def test_a_hanging_read_ends_the_run_and_is_named(numbered, monkeypatch, workers, early):
    # closing must not wait for this long
    monkeypatch.setattr("minialex.data.loading.workers._CLOSE_WAIT", 3600.0)
    dataset, release = held(numbered)
    load = Loader(dataset, SIZE, workers=workers, timeout=0.3)
    try:
        if early:
            load.read_ahead(np.arange(8))
        with pytest.raises(InputError, match=r"number 6 is still being read after \d+ s"):
            list(load.batches(np.arange(40), 4))
        assert 6 not in dataset.finished  # nothing has waited for it
    finally:
        release.set()
        for thread in loader_threads():
            thread.join(5)


def test_a_read_out_of_memory_ends_the_run_and_is_named(numbered):
    dataset = numbered(40)
    quick = dataset.image

    def image(index, size):
        return quick(index, size) if index != 6 else np.empty(1 << 60, np.uint8)

    dataset.image = image
    with pytest.raises(InputError, match="number 6: there is not enough memory to read it"):
        list(Loader(dataset, SIZE).batches(np.arange(40), 4))


@pytest.mark.parametrize(
    "error", [ZeroDivisionError, SystemExit, KeyboardInterrupt, RecursionError]
)
def test_a_dying_worker_ends_the_run_and_its_image_is_named(numbered, error):
    dataset = numbered(40)
    quick = dataset.image

    def image(index, size):
        if index == 6:
            raise error("gone")
        return quick(index, size)

    dataset.image = image
    with pytest.raises(error, match="gone") as caught:
        list(Loader(dataset, SIZE, workers=1).batches(np.arange(40), 4))
    assert caught.value.__notes__ == ["while reading number 6"]


def test_a_limit_on_threads_gives_a_clear_error(numbered, monkeypatch):
    start, started = threading.Thread.start, []

    def refuse(self):
        if self.name.startswith("minialex-loader") and len(started) >= 2:
            raise RuntimeError("can't start new thread")
        started.append(self)
        start(self)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(InputError, match="does not allow 5 threads"):
        list(Loader(numbered(40), SIZE, workers=5).batches(np.arange(40), 4))
    monkeypatch.undo()


class Mapped:
    """The numbered images as images, memory-mapped."""

    mapped_size = SIZE

    def __init__(self, whole):
        self.whole = whole

    def __getattr__(self, name):
        return getattr(self.whole, name)

    def __len__(self):
        return len(self.whole)

    def copy_mapped(self, indices, out):
        for row, index in zip(out, indices, strict=True):
            row[...] = self.whole.image(int(index), SIZE)


@given(
    st.integers(0, 60),
    st.integers(1, 70),
    st.integers(1, 5),
    st.none() | st.integers(0, 80),
    st.integers(0, 5),
)
def test_mapped_images_equal_decoded_ones(numbered, count, batch_size, workers, ahead, skip):
    order = np.random.default_rng(count).permutation(count)
    options = {"workers": workers, "ahead": ahead}
    first = min(skip * batch_size, count)
    decoded = Loader(numbered(count), SIZE, **options).batches(order, batch_size, first)
    mapped = Loader(Mapped(numbered(count)), SIZE, **options).batches(order, batch_size, first)
    for one, other in zip(decoded, mapped, strict=True):
        for name in ("images", "labels", "positions", "indices", "end"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_mapped_squares_of_another_size_are_decoded(numbered):
    load = Loader(Mapped(numbered(8)), SIZE + 1)
    assert next(load.batches(np.arange(8), 4)).images.shape == (4, SIZE + 1, SIZE + 1, 3)


def test_a_hanging_copy_ends_the_run_and_is_named(numbered):
    dataset, release = held(numbered)
    load = Loader(Mapped(dataset), SIZE, workers=2, timeout=0.3)
    try:
        with pytest.raises(InputError, match=r"number \d is still being read"):
            list(load.batches(np.arange(40), 4))
        assert 6 not in dataset.finished
    finally:
        release.set()
        for thread in loader_threads():
            thread.join(5)


def test_a_suspended_program_blames_no_file():
    with Workers(1, lambda index: f"number {index}", timeout=5.0) as workers:
        long_ago = time.monotonic() - 100
        workers._running[1], workers._checked = (3, long_ago), long_ago
        workers._check_timeout()  # nothing was checked for 100 seconds, so they do not count
        workers._check_timeout()
        workers._running[1] = 3, long_ago
        with pytest.raises(InputError, match="number 3 is still being read after 100 s"):
            workers._check_timeout()


class Unreliable:
    """A data set on a drive that fails `failures[index]` times with the error `number`."""

    def __init__(self, dataset, failures, number=errno.EIO):
        self.dataset, self.failures, self.number = dataset, dict(failures), number

    def __getattr__(self, name):
        return getattr(self.dataset, name)

    def __len__(self):
        return len(self.dataset)

    def image(self, index, size):
        if self.failures.get(index, 0):
            self.failures[index] -= 1
            raise OSError(self.number, "Input/output error", f"number {index}")
        return self.dataset.image(index, size)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EMFILE])
def test_a_drive_error_is_retried_with_growing_pauses(numbered, number):
    pauses: list[float] = []
    dataset = Unreliable(numbered(40), {3: 1, 7: 4}, number)
    load = Loader(dataset, SIZE, workers=1, sleep=pauses.append)
    delivered = [i for b in load.batches(np.arange(40), 8) for i in b.indices.tolist()]
    assert delivered == list(range(40))
    assert load.skipped == {}
    assert pauses == [retry.PAUSES[0], *retry.PAUSES[:4]]
    assert list(retry.PAUSES) == sorted(retry.PAUSES)
    assert sum(retry.PAUSES) < workers.TIMEOUT / 2


def test_images_left_out_of_an_epoch_are_retried_in_the_next(numbered):
    dataset = Unreliable(numbered(40, broken=[5]), {7: len(retry.PAUSES) + 1})
    load = Loader(dataset, SIZE, workers=2, sleep=lambda _: None)
    for left_out in (2, 1):
        assert sum(map(len, load.batches(np.arange(40), 8))) == 40 - left_out
    assert set(load.skipped) == {"number 5", "number 7"}


def test_other_errors_are_not_retried(numbered):
    dataset = Unreliable(numbered(40), {3: 9}, errno.EACCES)
    load = Loader(dataset, SIZE, workers=1, sleep=lambda _: pytest.fail("waited"))
    assert sum(map(len, load.batches(np.arange(40), 8))) == 39


def test_a_lost_drive_ends_the_epoch_soon(numbered):
    dataset = Unreliable(numbered(10_000), dict.fromkeys(range(100, 10_000), 99))
    load = Loader(dataset, SIZE, workers=2, sleep=lambda _: None)
    with pytest.raises(InputError, match=r"the drive failed for the last \d+ images .* try again"):
        list(load.batches(np.arange(10_000), 8))
    assert len(load.skipped) < 100


def test_a_slow_read_is_named_once_long_before_it_ends_the_run(capsys):
    with Workers(1, lambda index: f"number {index}", timeout=5000.0) as workers:
        workers._running[1] = 3, time.monotonic() - 40
        for _ in range(3):
            workers._check_timeout()
    assert capsys.readouterr().err == (
        "minialex: number 3 is still being read after 40 s: waiting up to 5000 s for it\n"
    )


def test_waiting_for_an_image_can_be_interrupted(numbered):
    dataset, release = held(numbered)
    load = Loader(dataset, SIZE, workers=2)

    def stop():
        release.set()
        raise ZeroDivisionError

    load.on_wait = stop
    with pytest.raises(ZeroDivisionError):
        list(load.batches(np.arange(40), 4))


HANGS = """
import sys, threading
from minialex.cli.main import main
from minialex.data.decode import images
from minialex.data.loading import workers
workers.TIMEOUT = 1.0
load = images.load_resized
def stuck(source, size, name=""):
    if size > 8 and str(source).endswith("dog/3.JPEG"):
        threading.Event().wait()
    return load(source, size, name)
images.load_resized = stuck
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("command", ["train --model alexnet-64 --allow-upscaling", "prepare"])
def test_a_process_with_a_hanging_read_can_exit(photos, tmp_path, command):
    name, *options = command.split()
    where = ["--data", photos, "--out", tmp_path / "new"]
    if name == "prepare":
        where = [photos, tmp_path / "new"]
    line = [sys.executable, "-c", HANGS, name, *where, *options]
    ended = subprocess.run(line, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2, ended.stderr
    assert re.search(r"dog/3\.JPEG is still being read after \d+ s", ended.stderr)


class Own(Dataset):
    """A data set made in Python, which returns `found` for every image."""

    name, layout, native_size = "own", "made", None
    class_ids = class_names = ("a", "b")
    labels = np.array([0, 1] * 8)

    def __init__(self, found):
        self.found = found

    def __len__(self):
        return len(self.labels)

    def image(self, index, size):
        return self.found

    def describe(self, index):
        return str(index)


@pytest.mark.parametrize(
    ("found", "what"),
    [
        (np.zeros((8, 8, 3)), r"an array \(8, 8, 3\) of float64"),
        (np.zeros((8, 8, 1), np.uint8), r"an array \(8, 8, 1\) of uint8"),
        (np.zeros((4, 8, 3), np.uint8), r"an array \(4, 8, 3\) of uint8"),
        ([[0]], "list"),
    ],
)
def test_images_of_ones_own_data_set_are_checked(found, what):
    with pytest.raises(InputError, match=f"image.0, 8. of the data set 'own' returns {what}: it"):
        next(Loader(Own(found), 8).batches(np.arange(4), 2))
