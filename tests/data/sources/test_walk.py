"""Walking a folder lists its images and reports what is left out, by kind."""

import os
import shutil
import sys

import numpy as np
import pytest

from minialex.data.inspect.check import check_data
from minialex.data.inspect.info import inspect
from minialex.data.packed import packing
from minialex.data.packed.prepare import prepare
from minialex.data.remarks import Remarks, every_line
from minialex.data.sources import walk
from minialex.data.sources.class_folders import ImageFolder
from minialex.data.sources.open import open_data
from minialex.errors import InputError


@pytest.fixture
def folder(tmp_path, photo):
    """Classes a and b of three photographs each."""
    for number in range(6):
        photo(tmp_path / "photos" / "ab"[number % 2] / f"{number}.jpg", number)
    return tmp_path / "photos"


def link(path, target):
    path.symlink_to(target)


def write(path, content=b"no image"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


LEFT_OUT = {
    "HEIC files, not supported (convert them to JPEG): 1 (a/x.HEIC)": lambda a: write(a / "x.HEIC"),
    "camera raw files, not supported (convert them to JPEG): 1 (a/x.nef)": lambda a: write(
        a / "x.nef"
    ),
    "archive files, not supported (unpack or remove them): 1 (a/x.zip)": lambda a: write(
        a / "x.zip"
    ),
    "images in folders below a class (move them up): 1 (a/more/still/x.jpg)": lambda a: write(
        a / "more" / "still" / "x.jpg"
    ),
    "folders named like an image: 1 (a/x.jpg)": lambda a: (a / "x.jpg").mkdir(),
    "links in a loop (remove them): 1 (a/x.jpg)": lambda a: link(a / "x.jpg", "x.jpg"),
    "broken links (fetch or remove them): 1 (a/x.jpg)": lambda a: link(a / "x.jpg", "nowhere"),
    "links to files that were not fetched (run `git annex get`): 1 (a/x.jpg)": lambda a: link(
        a / "x.jpg", "../.git/annex/objects/xx/SHA256E-1"
    ),
    "pipes, sockets or devices named like an image: 1 (a/x.jpg)": lambda a: os.mkfifo(a / "x.jpg"),
}


@pytest.mark.skipif(os.name != "posix", reason="no pipes here")
@pytest.mark.parametrize("what", LEFT_OUT)
def test_every_command_reports_missed_images(folder, tmp_path, capsys, what):
    LEFT_OUT[what](folder / "a")
    line = f"left out: {what}"
    splits = open_data(folder)
    assert len(splits.train) + len(splits.val) == 6
    assert every_line(splits.remarks) == [line]
    assert line in str(inspect(folder)).splitlines()
    assert inspect(folder).as_dict()["remarks"] == [line]
    report = check_data(folder, 16)
    assert f"  {line}" in report.partition("problems:")[2].splitlines()
    prepare(folder, tmp_path / "packed", size=16)
    assert line in capsys.readouterr().out.splitlines()
    assert line.rpartition(" (")[0] in (tmp_path / "packed" / "report.txt").read_text()


def test_non_images_are_counted_without_being_a_problem(folder):
    for name in ("notes.txt", "more.txt", "README"):
        write(folder / "b" / name)
    write(folder / "loose.jpg")
    said = "\n".join(every_line(open_data(folder).remarks))
    for line in (
        "left out: .txt files, not images: 2 (b/",
        "left out: files without a suffix, not images: 1 (b/README)",
        "left out: images outside the class folders: 1 (loose.jpg)",
    ):
        assert line in said
    assert check_data(folder, 16).endswith("no problems found")


@pytest.mark.parametrize("name", ["@eaDir", "__MACOSX", ".ipynb_checkpoints", "$RECYCLE.BIN"])
def test_system_folders_are_not_classes(folder, photo, name):
    photo(folder / name / "0.jpg")
    photo(folder / "a" / name / "0.jpg")
    write(folder / "a" / "._1.jpg", b"\0\x05\x16\x07")
    write(folder / "a" / "Thumbs.db")
    write(folder / "b" / ".DS_Store")
    splits = open_data(folder)
    assert splits.train.class_ids == ("a", "b")
    assert (len(splits.train) + len(splits.val), every_line(splits.remarks)) == (6, [])


def test_images_without_a_suffix_are_read(folder, photo):
    photo(folder / "a" / "scan", 9)
    photo(folder / "b" / "image.jpg_large", 8)
    splits = open_data(folder)
    assert (len(splits.train) + len(splits.val), every_line(splits.remarks)) == (8, [])


@pytest.mark.parametrize("jpeg", [False, True])
def test_a_packed_set_and_a_run_folder_are_not_classes(folder, jpeg):
    first = prepare(folder, folder / "packed", size=16, jpeg=jpeg, progress=False)
    run = folder / "run"
    write(run / "config.json")
    write(run / "last.safetensors")
    write(run / "curves.png")
    assert check_data(folder, 16).endswith("no problems found")
    assert open_data(folder).train.class_ids == ("a", "b")
    again = prepare(folder, folder / "packed", size=16, jpeg=jpeg, progress=False)
    assert again.images == first.images
    names = set(walk.below(folder, Remarks()))
    assert names == {*(f"{'ab'[i % 2]}/{i}.jpg" for i in range(6)), "run/curves.png"}
    for path in (folder / "packed").iterdir():  # as a kill in the first moments leaves it
        if path.name == "manifest.json":
            path.rename(folder / "packed" / "unfinished.safetensors")
        else:
            path.unlink()
    assert open_data(folder).train.class_ids == ("a", "b")


def test_an_early_killed_prepare_leaves_no_class(folder, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(packing, "write_file", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prepare(folder, folder / "packed", size=16, progress=False)
    assert sum(prepare(folder, folder / "packed", size=16, progress=False).images.values()) == 6


def test_a_class_whose_folder_cannot_be_opened_is_named(folder, monkeypatch):
    scandir = os.scandir

    def closed(path):
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(InputError, match=r"b' cannot be opened \(Permission denied\)"):
        open_data(folder)
    remarks = Remarks()
    assert sorted(walk.below(folder, remarks)) == ["a/0.jpg", "a/2.jpg", "a/4.jpg"]
    assert remarks.problems() == [
        "left out: files or folders that cannot be opened (Permission denied): 1 (b)"
    ]


@pytest.mark.skipif(os.name != "posix", reason="no links here")
@pytest.mark.parametrize("where", ["c", "../set/val"])
def test_classes_and_parts_that_were_not_fetched_are_named(folder, where):
    root = folder
    if where != "c":
        root = folder.parent / "set"
        root.mkdir()
        folder.rename(root / "train")
    link(folder / where if where == "c" else root / "val", ".git/annex/objects/c")
    name = where.rpartition("/")[2]
    report = check_data(root, 16).partition("problems:")[2]
    assert f"links to files that were not fetched (run `git annex get`): 1 ({name})" in report


def test_a_tree_deeper_than_the_recursion_limit(folder):
    deepest = folder.joinpath("a", *"d" * 150)
    deepest.mkdir(parents=True)
    shutil.copy(folder / "b" / "1.jpg", deepest)
    frames, frame = 0, sys._getframe()
    while frame is not None:
        frames, frame = frames + 1, frame.f_back
    limit, found = sys.getrecursionlimit(), walk.below(folder, Remarks())
    sys.setrecursionlimit(frames + 100)
    try:
        names = set(found)
    finally:
        sys.setrecursionlimit(limit)
    assert f"a{'/d' * 150}/1.jpg" in names
    assert open_data(folder).remarks[0].counts[walk.BELOW] == 1


@pytest.mark.skipif(os.name != "posix", reason="no links here")
def test_link_loops_end(folder):
    link(folder / "a" / "again", "..")
    remarks = Remarks()
    assert len(list(walk.below(folder, remarks))) == 6
    assert remarks.problems() == ["left out: links in a loop (remove them): 1 (a/again)"]


@pytest.mark.skipif(os.name != "posix", reason="no links here")
def test_a_folder_with_two_links_is_read_once(folder):
    os.symlink(folder / "b", folder / "a" / "other")
    remarks = Remarks()
    found = [name.rpartition("/")[2] for name in walk.below(folder, remarks)]
    assert sorted(found) == sorted(
        path.name for name in ("a", "b") for path in (folder / name).iterdir() if path.is_file()
    )
    assert remarks.problems() == []


def test_remarks_of_a_complete_set_are_read_only(folder):
    shared = ImageFolder(folder, "set", "", ("a",), ("a",), (), np.zeros(0, np.int64)).remarks
    with pytest.raises(TypeError, match="are shared"):
        shared.lack("an image")
    with pytest.raises(TypeError, match="are shared"):
        shared.add(Remarks())
    assert every_line([shared, Remarks()]) == []
