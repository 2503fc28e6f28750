import errno
import shutil

import numpy as np
import pytest
from helpers import ilsvrc
from PIL import Image

from minialex.data.inspect import report_lines
from minialex.data.inspect.check import check_data
from minialex.data.loading import retry
from minialex.data.sources.open import open_data


@pytest.fixture(autouse=True)
def _simplejpeg(monkeypatch):
    """If it is not installed, the report has one more line."""
    monkeypatch.setattr("minialex.data.inspect.report_lines.simplejpeg", object)


def test_a_healthy_folder_has_no_problems(photos):
    told: list[int] = []
    text = check_data(photos, 30, progress=told.append)
    assert text.splitlines() == [
        "photos: class folders in train/ and val/",
        "train: 10 images in 2 classes, 5 per class",
        "val: 4 images in 2 classes, 2 per class",
        "  class    train      val",
        "  cat          5        2",
        "  dog          5        2",
        "colour modes: 14 RGB",
        "shorter sides: 30 pixels",
        "no problems found",
    ]
    assert sum(told) == 14


def test_a_lost_drive_is_not_retried_for_every_image(monkeypatch):
    paused: list[float] = []
    monkeypatch.setattr(retry.time, "sleep", paused.append)

    def gone(image):
        raise OSError(errno.EIO, "Input/output error", image[2])

    todo = [("train", "cat", f"{number}.jpg") for number in range(40)]
    files = report_lines.read_all(todo, gone, 1, None)
    assert [file.name for file in files] == [name for _, _, name in todo]
    assert all("Input/output error" in file.problem for file in files)
    assert sum(paused) == pytest.approx(retry.FEW * sum(retry.PAUSES))


def test_every_kind_of_problem_is_reported(photos):
    train, val = photos / "train", photos / "val"
    (train / "ant").mkdir()
    (train / "bee").mkdir()
    (train / "bee" / "0.jpg").write_text("no picture")
    (val / "elk").mkdir()
    shutil.copy(train / "cat" / "1.JPEG", val / "elk" / "again.jpg")
    cut = train / "dog" / "0.JPEG"
    cut.write_bytes(cut.read_bytes()[:-300])
    Image.new("CMYK", (7, 40)).save(train / "dog" / "print.tif")
    Image.new("L", (40, 40)).save(train / "dog" / "grey.png")
    (train / "dog" / "notes.txt").write_text("mine")
    text = check_data(photos, 32)
    for line in (
        "left out: .txt files, not images: 1 (train/dog/notes.txt)",
        "colour modes: 14 RGB, 1 grey (converted to RGB), 1 CMYK (converted to RGB)",
        f"{train / 'dog' / 'print.tif'} (7 x 40)",
        "class ant of train is empty",
        "class bee of train has no readable image",
        "class elk of val is not in train",
        "class ant of train is not in val",
        "unreadable files, which training skips: 2",
        f"{cut} cannot be read as an image: image file is truncated",
        f"{train / 'bee' / '0.jpg'} is not an image",
        "train/val leakage, images of val that are also in train: 1",
        f"{val / 'elk' / 'again.jpg'} = {train / 'cat' / '1.JPEG'}",
        "the same image in two classes, so one of the labels is wrong: 1",
    ):
        assert line in text
    assert "no problems found" not in text


def test_duplicates_and_mislabelled_files_are_listed(tmp_path, photo):
    for k, wnid in enumerate(("n01440764", "n02012849")):
        for number in range(3):
            photo(tmp_path / "set" / wnid / f"{wnid}_{number}.JPEG", 3 * k + number)
    first, second = sorted((tmp_path / "set").iterdir())
    assert check_data(tmp_path / "set", 16).endswith("no problems found")
    shutil.copy(first / "n01440764_0.JPEG", first / "copy.JPEG")
    Image.open(first / "n01440764_1.JPEG").save(second / "other.png")  # the pixels are the same
    shutil.copy(first / "n01440764_2.JPEG", second / "n01440764_2.JPEG")
    problems = check_data(tmp_path / "set", 64).partition("problems:")[2]
    for line in (
        "the same image in two classes, so one of the labels is wrong: 2",
        f"{second / 'other.png'} = {first / 'n01440764_1.JPEG'}, as n02012849 and n01440764",
        "the same image twice in one class: 1",
        f"{first / 'n01440764_0.JPEG'} = {first / 'copy.JPEG'}",
        "mislabelled files, which prepare leaves out: 1",
        "its name says n01440764, but it is in n02012849",
    ):
        assert line in problems


def test_a_less_strict_decoder_is_mentioned(photos, monkeypatch):
    note = "Pillow alone does not detect damage in the middle of a JPEG"
    assert note not in check_data(photos, 16)
    monkeypatch.setattr("minialex.data.inspect.report_lines.simplejpeg", lambda: None)
    assert note in check_data(photos, 16)


def test_nothing_to_hold_out_is_a_problem(tmp_path, photo):
    for number, name in enumerate("abc"):
        photo(tmp_path / "one" / name / "0.jpg", number)
    assert "no class has two images, so none can be held out" in check_data(tmp_path / "one", 16)


def test_class_folders_alone(photos):
    text = check_data(photos / "train", 16)
    assert "class folders, about 10% of each class held out by seed 0" in text
    assert "enlarge" not in check_data(photos / "train")
    shutil.rmtree(photos / "train" / "cat")
    assert "only 1 class" in check_data(photos / "train", 16)


def test_a_long_table_shows_its_ends(tmp_path, photo):
    for number in range(50):
        photo(tmp_path / "many" / f"c{number:02}" / "0.jpg", number)
    text = check_data(tmp_path / "many", 16)
    assert "the 10 smallest and 10 largest classes:" in text
    assert len(text.splitlines()) < 30


def test_records_and_drawings(tmp_path):
    records = np.random.default_rng(0).integers(0, 10, (20, 3073), np.uint8)
    (tmp_path / "data_batch_1.bin").write_bytes(records.tobytes())
    (tmp_path / "test_batch.bin").write_bytes(records[:1].tobytes())
    assert "sizes: 32 x 32\n" in check_data(tmp_path)
    text = check_data(tmp_path, 256)
    assert "sizes: 32 x 32, enlarged to 256 x 256 (--size)" in text
    assert "train/val leakage, images of val that are also in train: 1" in text
    assert "no problems found" in check_data("shapes:48")


def test_a_path_that_is_not_a_data_set(tmp_path):
    with pytest.raises(FileNotFoundError):
        check_data(tmp_path / "nowhere")


def test_a_packed_set_is_read_to_its_last_byte(photos, tmp_path):
    from minialex.data.packed.prepare import prepare

    prepare(photos, tmp_path / "packed", size=16, progress=False)
    report = check_data(tmp_path / "packed")
    assert "packed pixels, 16 x 16, from class folders" in report
    assert "sizes: 16 x 16\n" in report
    assert "16 x 16, enlarged to 20 x 20 (--size)" in check_data(tmp_path / "packed", 20)
    assert report.endswith("no problems found")
    shard = tmp_path / "packed" / "val-00000.npy"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    assert f"{shard} has changed since it was written" in check_data(tmp_path / "packed")


def blank(data, index):
    """Zeros over the first bytes of an image, in its file or in its archive."""
    path, start = data.path(index), 0
    if path is None:
        path, start = data.archive, int(data.offsets[index])
    content = bytearray(path.read_bytes())
    content[start : start + 200] = bytes(200)
    path.write_bytes(content)


@pytest.mark.parametrize("write", [ilsvrc.write_archives, ilsvrc.write_kaggle])
def test_check_reads_every_image_of_an_archive(tmp_path, write):
    root = write(tmp_path / "imagenet")
    assert check_data(root).endswith("no problems found")
    blank(open_data(root).train, 4)
    report = check_data(root)
    assert "unreadable files, which training skips: 1" in report
    assert "n02012849_11.JPEG is not an image" in report
    assert "has no readable image" not in report


def test_a_class_without_a_readable_image_in_an_archive_is_named(tmp_path):
    root = ilsvrc.write_archives(tmp_path / "imagenet")
    train = open_data(root).train
    for index in (3, 4, 5):
        blank(train, index)
    assert "class n02012849 of train has no readable image" in check_data(root)
