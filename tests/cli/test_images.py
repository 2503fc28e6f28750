"""Images on the command line: unreadable ones are named and skipped, no prediction is lost."""

import errno
import os

import pytest
from helpers.cli_tools import write_photo

from minialex.cli import images
from minialex.data.loading import retry
from minialex.errors import InputError


@pytest.fixture
def folder(tmp_path):
    for name in ("a/0.jpg", "a/1.jpg", "2.jpg"):
        write_photo(tmp_path / "photos" / name)
    return tmp_path / "photos"


def found(*names) -> list[str]:
    return [name for read, _ in images.Photos(list(map(str, names))).batches(8) for name in read]


@pytest.mark.skipif(os.name != "posix", reason="no pipes here")
def test_a_folder_with_other_files_is_predicted(folder, capsys):
    (folder / "circle.jpg").symlink_to("circle.jpg")
    (folder / "lost.jpg").symlink_to("nowhere.jpg")
    (folder / "a" / "up").symlink_to("..")
    (folder / "folder.jpg").mkdir()
    os.mkfifo(folder / "pipe.jpg")
    (folder / "broken.jpg").write_bytes(b"")
    (folder / "._2.jpg").write_bytes(b"\0\5\x16\7")
    (folder / "b.heic").write_bytes(b"")
    assert found(folder) == [str(folder / name) for name in ("2.jpg", "a/0.jpg", "a/1.jpg")]
    said = capsys.readouterr().err
    for what in (
        "links in a loop (remove them): 2 (",
        "broken links (fetch or remove them): 1 (lost.jpg)",
        "pipes, sockets or devices named like an image: 1 (pipe.jpg)",
        "HEIC files, not supported (convert them to JPEG): 1 (b.heic)",
        f"{folder / 'broken.jpg'} is not an image that Pillow can read: it is empty",
    ):
        assert f"skipped: {what}" in said
    assert "._2" not in said


def test_an_unreadable_file_does_not_stop_the_others(folder, capsys):
    (folder / "lost.jpg").symlink_to("nowhere.jpg")
    (folder / "b.jpg").write_bytes(b"")
    (folder / "folder.jpg").mkdir()
    one = str(folder / "2.jpg")
    bad = [folder / name for name in ("lost.jpg", "b.jpg", "folder.jpg", "missing.jpg")]
    photos = images.Photos([str(bad[0]), one, *map(str, bad[1:])])
    assert [name for read, _ in photos.batches(8) for name in read] == [one]
    assert photos.exit_code == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == len(bad)
    for path in bad:
        assert any(line.startswith("skipped: ") and path.name in line for line in said), path
    with pytest.raises(InputError, match="none of the 2 images"):
        found(*bad[:2])


def test_a_single_file_must_be_readable(folder):
    (folder / "lost.jpg").symlink_to("nowhere.jpg")
    with pytest.raises(FileNotFoundError, match="the link leads nowhere"):
        found(folder / "lost.jpg")
    (folder / "b.jpg").write_bytes(b"")
    with pytest.raises(InputError, match="it is empty"):
        found(folder / "b.jpg")


@pytest.mark.skipif(os.name != "posix", reason="Windows allows no colon in a name")
def test_what_is_there_comes_before_drawings(folder, monkeypatch):
    """As in Python's predict; data sets ask which of the two is meant."""
    monkeypatch.chdir(folder)
    (folder / "a").rename("shapes")
    (folder / "2.jpg").rename("shapes:2")
    assert found("shapes", "shapes:2") == ["shapes/0.jpg", "shapes/1.jpg", "shapes:2"]
    assert len(found("shapes:3")) == 3


def test_an_image_named_twice_has_two_rows(folder):
    name = str(folder / "2.jpg")
    assert found(name, folder / "a", name) == [
        name,
        str(folder / "a/0.jpg"),
        str(folder / "a/1.jpg"),
        name,
    ]


def test_a_temporary_drive_error_is_retried_and_no_row_is_lost(folder, monkeypatch, capsys):
    from minialex.data.decode import images as decode

    monkeypatch.setattr(retry, "PAUSES", (0.0, 0.0))
    opened, failures = decode.open_file, {"0.jpg": 2, "1.jpg": 9}

    def unreliable(path):
        name = os.path.basename(path)
        if failures.get(name, 0):
            failures[name] -= 1
            raise OSError(errno.EIO, "Input/output error", str(path))
        return opened(path)

    monkeypatch.setattr(decode, "open_file", unreliable)
    assert found(folder) == [str(folder / "2.jpg"), str(folder / "a/0.jpg")]
    assert "1.jpg" in capsys.readouterr().err


@pytest.fixture
def broken_drive(monkeypatch):
    """Every read of the names in `gone` fails; `tried` counts the reads, `paused` the seconds."""
    from minialex.data.decode import images as decode

    class Drive:
        gone: tuple[str, ...] = ()
        tried, paused = 0, 0.0

        def sleep(self, seconds):
            self.paused += seconds

        def open(self, path):
            if os.path.basename(path) in self.gone:
                self.tried += 1
                raise OSError(errno.EIO, "Input/output error", str(path))
            return opened(path)

    opened, drive = decode.open_file, Drive()
    monkeypatch.setattr(decode, "open_file", drive.open)
    monkeypatch.setattr(retry.time, "sleep", drive.sleep)
    return drive


def test_a_lost_drive_ends_the_command_but_keeps_the_rows_so_far(folder, broken_drive, capsys):
    gone = [f"b{number:03}.jpg" for number in range(90)]
    for name in gone:
        (folder / name).write_bytes(b"")
    broken_drive.gone = tuple(gone)
    photos = images.Photos([str(folder)])
    assert [name for read, _ in photos.batches(8) for name in read] == [
        str(folder / name) for name in ("2.jpg", "a/0.jpg", "a/1.jpg")
    ]
    assert broken_drive.paused == pytest.approx(retry.FEW * sum(retry.PAUSES))
    assert (photos.exit_code, photos.complete) == (1, False)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == retry.MANY + 1
    left = 90 - retry.MANY
    assert said[-1] == (
        f"skipped: {left} more images: the drive failed for the last {retry.MANY}, check that it "
        "works"
    )


def test_occasional_drive_errors_are_retried(folder, broken_drive):
    broken_drive.gone = ("0.jpg",)
    names = [name for _ in range(6) for name in (folder / "a/0.jpg", folder / "2.jpg")]
    assert len(found(*names)) == 6
    assert broken_drive.paused == pytest.approx(6 * sum(retry.PAUSES))
