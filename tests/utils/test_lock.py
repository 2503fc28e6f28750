"""One process at a time in a folder: on local disks, on NFS, and without file locks."""

import errno
import os
import sys

import pytest

from minialex.errors import InputError
from minialex.utils import atomic
from minialex.utils.lock import LOCK, OWNER, lock

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="flock")
GONE = 2**22 + 1  # no process has this number


@pytest.fixture
def flock(monkeypatch):
    """Replaces flock; the function that was there is returned."""
    import fcntl

    real = fcntl.flock

    def use(function):
        monkeypatch.setattr(fcntl, "flock", function)
        return real

    return use


def nowhere(number=errno.ENOLCK):
    def refuse(descriptor, how):
        raise OSError(number, os.strerror(number))

    return refuse


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_only_one_process_at_a_time(tmp_path):
    (tmp_path / "old.txt").touch()
    for _ in range(2):
        with lock(tmp_path, "busy"):
            with pytest.raises(InputError, match=r"^busy$"), lock(tmp_path, "busy"):
                pass
            assert names(tmp_path) == [LOCK, "old.txt"]


def test_an_unused_folder_is_left_empty(tmp_path):
    with lock(tmp_path, "busy"):
        pass
    assert names(tmp_path) == []


def test_nfs_locks_only_files_open_for_writing(tmp_path, flock):
    import fcntl

    def nfs(descriptor, how):
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        real(descriptor, how)

    real = flock(nfs)
    with lock(tmp_path, "busy"):
        assert names(tmp_path) == [LOCK]
        with pytest.raises(InputError, match=r"^busy$"), lock(tmp_path, "busy"):
            pass


def test_a_removed_lock_file_locks_nothing(tmp_path, flock):
    calls = []

    def late(descriptor, how):
        calls.append(descriptor)
        if len(calls) == 1:  # the holder's folder stayed empty, and another process came
            (tmp_path / LOCK).unlink()
            (tmp_path / LOCK).touch()
        real(descriptor, how)

    real = flock(late)
    with lock(tmp_path, "busy"):
        assert len(calls) == 2
        with pytest.raises(InputError, match="busy"), lock(tmp_path, "busy"):
            pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EBADF, errno.EIO])
def test_without_locks_a_file_names_the_owner(tmp_path, flock, number):
    flock(nowhere(number))
    with lock(tmp_path, "busy"):
        said = rf"^busy \(.*{OWNER} names process {os.getpid()} on {atomic.this_host()}: remove"
        with pytest.raises(InputError, match=said), lock(tmp_path, "busy"):
            pass
    with lock(tmp_path, "busy"):
        pass
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (f"{atomic.this_host()} {GONE}", None),
        (f"elsewhere {GONE}", "process 4194305 on elsewhere"),
        ("", "on an unknown machine"),
    ],
)
def test_an_owner_counts_as_gone_only_if_that_is_certain(tmp_path, flock, content, said):
    flock(nowhere())
    (tmp_path / OWNER).write_text(content)
    if said is None:
        with lock(tmp_path, "busy"):
            assert (tmp_path / OWNER).read_text().endswith(f" {os.getpid()}")
        assert names(tmp_path) == []
        return
    with pytest.raises(InputError, match=said), lock(tmp_path, "busy"):
        pass
    assert (tmp_path / OWNER).read_text() == content


def test_an_owner_elsewhere_is_gone_if_that_is_known(tmp_path, flock):
    """From MPI, for example, which has lost a rank."""
    flock(nowhere())
    (tmp_path / OWNER).write_text("else_where 7")
    with pytest.raises(InputError, match="busy"), lock(tmp_path, "busy", [("else.where", 8)]):
        pass
    with lock(tmp_path, "busy", [("else.where", 8), ("else.where", 7)]):
        assert (tmp_path / OWNER).read_text().endswith(f" {os.getpid()}")
    assert names(tmp_path) == []


def test_a_new_owners_file_is_not_removed(tmp_path, flock, monkeypatch):
    flock(nowhere())
    path, rename = tmp_path / OWNER, os.rename
    path.write_text(f"{atomic.this_host()} {GONE}")

    def late(source, target):
        monkeypatch.setattr(os, "rename", rename)
        path.write_text("elsewhere 1")  # another process took it over first
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    with pytest.raises(InputError, match="busy"), lock(tmp_path, "busy"):
        pass
    assert path.read_text() == "elsewhere 1"


@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.EROFS, "choose a folder you can write to"), (errno.ENOSPC, "free some space")],
)
def test_a_folder_that_cannot_be_written_to_is_named(tmp_path, monkeypatch, number, said):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OSError, match=said) as caught, lock(tmp_path, "busy"):
        pass
    assert caught.value.errno == number


def test_another_users_lock_file_works_too(tmp_path, monkeypatch):
    (tmp_path / LOCK).touch()
    real = os.open

    def theirs(path, flags, *more, **named):
        if flags & os.O_RDWR:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", theirs)
    with (
        lock(tmp_path, "busy"),
        pytest.raises(InputError, match=r"^busy$"),
        lock(tmp_path, "busy"),
    ):
        pass
