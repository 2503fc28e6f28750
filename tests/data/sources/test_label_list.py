"""labels.csv as a data set: files found and missing, with and without a header, foreign paths."""

from unicodedata import normalize

import numpy as np
import pytest
from PIL import Image

from minialex.data.inspect.check import check_data, problems
from minialex.data.packed.prepare import prepare
from minialex.data.sources.open import open_data, open_for_evaluation
from minialex.errors import InputError

NAMES = ("cats/a 1.png", "cats/b.png", "dogs/a 1.png", "dogs/d.png", "e.png")


@pytest.fixture
def images(tmp_path):
    """Five images in three folders, each of one grey level: 10, 20, ..."""
    root = tmp_path / "photos"
    for number, name in enumerate(NAMES, 1):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 12), (10 * number,) * 3).save(path)
    return root


def table(images, text, name="labels.csv"):
    path = images / name
    path.write_text(text, encoding="utf-8")
    return path


def opened(path, **options):
    """{grey level: class} of the training images, with none held out."""
    train = open_data(path, **{"val_fraction": 0, **options}).train
    levels = [int(train.image(i, 12).mean()) for i in range(len(train))]
    return dict(zip(levels, (train.class_ids[k] for k in train.labels), strict=True))


ALL = {10: "cat", 20: "cat", 30: "dog", 40: "dog"}
LINES = (
    ("cats/a 1.png", "cat"),
    ("cats/b.png", "cat"),
    ("dogs/a 1.png", "dog"),
    ("dogs/d.png", "dog"),
)


def written(lines=LINES, delimiter=","):
    return "".join(f"{file}{delimiter}{label}\n" for file, label in lines)


@pytest.mark.parametrize(
    "text",
    [
        written(),
        "\ufefffile,label\n" + written(),
        "Label;width;File Name\n" + "".join(f"{b};9;{a}\n" for a, b in LINES),
        "id\tbreed\n" + written(delimiter="\t"),
        "".join(f'"{file}", "{label}"\n' for file, label in LINES).replace('", "', '","'),
        "file,label\n\n" + written() + "\n",
        written([(file.replace("/", "\\"), label) for file, label in LINES]),
        written([(f"D:\\data\\{file}".replace("/", "\\"), label) for file, label in LINES]),
        written([(f"/home/her/{file}".upper(), label) for file, label in LINES]),
        written([(file.removesuffix(".png"), label) for file, label in LINES]),
    ],
    ids=[
        "plain",
        "headings",
        "other-headings",
        "tabs",
        "quoted",
        "blank",
        "windows",
        "drive",
        "elsewhere",
        "stems",
    ],
)
def test_a_table_in_any_common_form(images, text):
    assert opened(table(images, text)) == ALL


def test_a_first_line_with_an_image_is_no_header_whatever_its_class(images):
    for word in ("target", "class", "id"):
        text = written([(file, label.replace("cat", word)) for file, label in LINES])
        found = opened(table(images, text))
        assert found == {level: label.replace("cat", word) for level, label in ALL.items()}


def test_a_table_in_another_encoding_is_refused(images):
    """Excel's default in Germany: with wrong letters, two classes could become one."""
    path = images / "labels.csv"
    path.write_bytes(written((*LINES[:3], ("dogs/d.png", "Köter"))).encode("cp1252"))
    with pytest.raises(InputError, match=r'not in UTF-8 \(line 4\): .* in Excel as "CSV UTF-8"'):
        open_data(path)
    path.write_bytes(written((*LINES[:3], ("dogs/d.png", "Köter"))).encode("utf-16"))
    assert opened(path)[40] == "Köter"


def test_a_list_with_spaces_and_a_folder_beside_one(images, tmp_path):
    lines = written(LINES[1:2] + LINES[3:], " ")
    assert opened(table(images, lines, "labels.txt")) == {20: "cat", 40: "dog"}
    flat = tmp_path / "flat"
    flat.mkdir()
    for name in ("b", "d"):
        Image.new("RGB", (9, 9)).save(flat / f"{name}.png")
    (flat / "labels.csv").write_text("b.png,cat\nd.png,dog\n")
    train = open_data(flat, val_fraction=0).train
    assert train.labels.tolist() == [0, 1]
    assert train.layout.startswith("labels from labels.csv")


def pictures(folder, names, level=0):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", (9, 9), (level,) * 3).save(folder / f"{name}.png")


def test_a_folder_with_a_list_and_its_images_below(tmp_path):
    pictures(tmp_path / "photos", "bd")
    (tmp_path / "labels.csv").write_text("id,breed\nb,cat\nd,dog\n")
    train = open_data(tmp_path, val_fraction=0).train
    assert train.layout.startswith("labels from labels.csv")
    assert train.class_ids == ("cat", "dog")


def test_kaggles_unlabelled_images_of_the_same_names_are_not_trained_on(tmp_path):
    pictures(tmp_path / "train", "abc", 50)
    pictures(tmp_path / "test", "abcd", 200)
    (tmp_path / "train.csv").write_text("id,breed\na,cat\nb,dog\nc,dog\nd,cat\n")
    train = open_data(tmp_path, val_fraction=0).train
    assert [int(train.image(i, 9).mean()) for i in range(len(train))] == [50, 50, 50]
    assert "1" in next(line for line in train.remarks.lines() if "do not exist" in line)


def test_names_that_several_folders_have_are_not_guessed(tmp_path):
    for folder in ("one", "two"):
        pictures(tmp_path / folder, "ab")
    path = tmp_path / "list.csv"
    path.write_text("a.png,cat\nb.png,dog\n")
    with pytest.raises(InputError, match=r"several folders have files .* \(a.png, b.png, ...\)"):
        open_data(path)


@pytest.mark.parametrize("gone", ["cats/1.png", "birds/1.png", "D:\\data\\cats\\1.png"])
@pytest.mark.parametrize("listed", ["", "dogs/1.png,dog\n"])
def test_a_missing_file_is_not_replaced_by_that_of_another_folder(tmp_path, gone, listed):
    pictures(tmp_path / "cats", "2", 20)
    pictures(tmp_path / "dogs", "13", 30)
    path = tmp_path / "labels.csv"
    path.write_text(f"{gone},cat\ncats/2.png,cat\ndogs/3.png,dog\n{listed}")
    train = open_data(path, val_fraction=0).train
    assert sorted(train.labels.tolist()) == ([0, 1, 1] if listed else [0, 1])
    assert any("do not exist" in line and gone in line for line in train.remarks.lines())


def test_names_with_folders_of_another_machine_are_found_where_none_of_these_exist(tmp_path):
    pictures(tmp_path / "photos", "bd")
    pictures(tmp_path, "e")
    path = tmp_path / "labels.csv"
    path.write_text("there/cats/b.png,cat\nthere/dogs/d.png,dog\nthere/e.png,dog\n")
    assert len(open_data(path, val_fraction=0).train) == 3
    path.write_text("there/photos/b.png,cat\nthere/photos/d.png,dog\nthere/e.png,dog\n")
    assert len(open_data(path, val_fraction=0).train) == 3


@pytest.mark.parametrize("folder", ["train/cat", "cat"])
def test_class_folders_with_a_table_beside_them_are_class_folders(tmp_path, folder):
    for name in (folder, folder.replace("cat", "dog")):
        (tmp_path / name).mkdir(parents=True)
        Image.new("RGB", (9, 9)).save(tmp_path / name / "b.png")
    (tmp_path / "labels.csv").write_text("b.png,bird\nd.png,fish\n")
    assert open_data(tmp_path, val_fraction=0).train.class_ids == ("cat", "dog")


def test_a_table_away_from_its_images(images, tmp_path):
    (tmp_path / "lists").mkdir()
    path = tmp_path / "lists" / "l.csv"
    path.write_text(written([(f"../photos/{file}", label) for file, label in LINES]))
    assert opened(path) == ALL
    path.write_text(written([(images / file, label) for file, label in LINES]))
    assert opened(path) == ALL
    inside = table(images, written([(images / file, label) for file, label in LINES]))
    train = open_data(inside, val_fraction=0).train
    assert train.image_name(0) == "cats/a 1.png"  # the same wherever the folder lies


def test_numeric_labels_are_sorted_as_numbers(images):
    lines = [(file, label) for (file, _), label in zip(LINES, ("10", "2", "2", "10"), strict=True)]
    assert open_data(table(images, written(lines)), val_fraction=0).train.class_ids == ("2", "10")


def test_left_out_files_are_named_and_counted(images):
    (images / "cats" / "c.heic").write_bytes(b"x")
    (images / "notes.txt").write_text("x")
    more = [*LINES, LINES[0], ("gone.png", "cat"), ("x/a 1.png", "dog"), ("e.png", "")]
    path = table(images, written([*more, ("notes.txt", "dog"), ("cats", "dog")]))
    assert opened(path) == ALL
    said = "\n".join(open_data(path).train.remarks.lines())
    assert "files in the list that do not exist (check their names): 2 (gone.png, cats)" in said
    assert "names that several folders have (add the folder to the name): 1 (x/a 1.png)" in said
    assert "without a label in the list: 1 (e.png)" in said
    assert "in the list twice: 1 (cats/a 1.png)" in said
    assert "HEIC files, not supported (convert them to JPEG): 1 (cats/c.heic)" in said
    assert ".txt files, not images: 1 (notes.txt)" in said
    assert len(problems(check_data(path))) >= 3


def test_unlisted_images_are_reported(images):
    path = table(images, written([LINES[0], LINES[3], ("e.png", "cat")]))
    said = open_data(path).train.remarks.lines()
    assert "left out: images that are not in the list: 2 (cats/b.png, dogs/a 1.png)" in said
    assert not any("labels.csv" in line for line in said)


def test_a_column_gives_the_split(images):
    rows = zip(LINES, ("train", "VAL", "Training", "test"), strict=True)
    lines = "".join(f"{file},{label},{part}\n" for (file, label), part in rows)
    path = table(images, f"file,label,split\n{lines}e.png,bird,val\n")
    splits = open_data(path)
    assert [len(part) for part in (splits.train, splits.val)] == [2, 1]
    assert splits.val.image_name(0) == "cats/b.png"
    assert splits.val.class_ids == ("cat", "dog")
    assert len(open_for_evaluation(path)) == 1
    said = "\n".join(splits.train.remarks.lines())
    assert "neither for training nor for validation: 1 (dogs/d.png)" in said
    assert "classes that have no training images: 1 (e.png)" in said
    path.write_text(path.read_text().replace("VAL", "test").replace("val", "test"))
    assert opened(path) == {10: "cat", 30: "dog"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty"),
        ("file,label\n", "a header line and no lines below"),
        ("a,b,c\n1,2,3\n", "starts with 'a', 'b', 'c': expected a column named `file`"),
        (
            written([*LINES, ("cats/b.png", "dog")]),
            "two classes, 'cat' in line 2 and 'dog' in line 5",
        ),
        ("x.png,cat\ny.png,dog\n", r"none of the images .* exists \(x.png, y.png, ...\)"),
        (written(LINES[:2]), "at least two classes"),
        ("file,label,split\ne.png,cat,1\n", "has no image for training"),
    ],
)
def test_an_unusable_table_gives_a_one_sentence_error(images, text, sentence):
    with pytest.raises(InputError, match=sentence):
        open_data(table(images, text))


def test_other_files_are_refused(images):
    with pytest.raises(InputError, match=r"or a list of labels such as labels\.csv"):
        open_data(images / "e.png")
    table(images, "x")
    with pytest.raises(FileNotFoundError, match=r"did you mean .*labels\.csv"):
        open_data(images / "label.csv")


def test_a_network_trains_and_is_evaluated_on_held_out_images(images, tmp_path, monkeypatch):
    from helpers.tiny import register_tiny

    import minialex

    register_tiny(monkeypatch)
    monkeypatch.chdir(images.parent)
    path = table(images, written())
    options = {"model": "tiny", "backend": "numpy", "epochs": 1, "progress": False}
    result = minialex.train(path, **options, val_fraction=0.5, allow_upscaling=True, out="run")
    assert result.classifier.class_names == ("cat", "dog")
    assert result.classifier.evaluate().images == 2
    assert np.isfinite(result.history[0]["train_loss"])


@pytest.mark.parametrize(("listed", "disk"), [("NFC", "NFD"), ("NFD", "NFC"), ("NFD", "NFD")])
def test_macos_names_are_found_and_give_the_same_labels(images, listed, disk):
    """In the list and on the disk, with the folder and without; one label in both forms."""
    (images / "cats").rename(images / normalize(disk, "ch\u00e2ts"))
    (images / "dogs" / "d.png").rename(images / "dogs" / normalize(disk, "d\u00e9.png"))
    lines = [(name.replace("cats", "ch\u00e2ts"), label) for name, label in LINES[:3]]
    text = written([*lines, ("d\u00e9.png", "dog")]).replace("cat", "\u00e9")
    text = normalize(listed, text) + normalize("NFC", "e.png,\u00e9\n")
    found = opened(table(images, text))
    assert found == {10: "\u00e9", 20: "\u00e9", 30: "dog", 40: "dog", 50: "\u00e9"}


def test_a_packed_list_names_images_relative_to_the_table(images, tmp_path):
    path = table(images, written() + "e.png,dog\n")
    prepare(path, tmp_path / "packed", size=8, val_fraction=0.3, progress=False)
    packed = open_data(tmp_path / "packed")
    parts = (packed.train, packed.val)
    names = [bytes(name).decode() for part in parts for name in part.names]
    assert sorted(names) == sorted(NAMES)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('file,label\n0.png,a\n1.png,"a\n2.png,b\n3.png,b"\n', "over several lines, up to line 5"),
        ("file,label\n0.png,a\n1.png,b, black\n", "line 3 of .* has 3 cells, the first line 2"),
    ],
)
def test_a_stray_quote_or_comma_in_a_table(tmp_path, text, sentence):
    for number in range(4):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{number}.png")
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(InputError, match=sentence):
        open_data(tmp_path / "labels.csv")
    (tmp_path / "labels.csv").write_text("file,label\n0.png,a,\n1.png,a,\n2.png,b\n3.png,b\n")
    assert len(open_data(tmp_path / "labels.csv", val_fraction=0).train) == 4
    notes = 'file,label,note\n0.png,a,"two\nlines"\n1.png,a,\n2.png,b,\n3.png,b,x\n'
    (tmp_path / "labels.csv").write_text(notes)
    assert len(open_data(tmp_path / "labels.csv", val_fraction=0).train) == 4
    (tmp_path / "labels.csv").write_text(notes.replace('lines"', "lines"))
    with pytest.raises(InputError, match="over several lines"):
        open_data(tmp_path / "labels.csv")


@pytest.mark.parametrize(
    ("parts", "judged"), [(["test"] * 4, 4), (["val"] * 4, 4), (["val", "val", "test", "test"], 2)]
)
def test_a_table_without_images_to_train_on_can_be_evaluated_on(tmp_path, parts, judged):
    rows = ["file,label,split\n"]
    for number, part in enumerate(parts):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{number % 2},{part}\n")
    (tmp_path / "labels.csv").write_text("".join(rows))
    assert len(open_for_evaluation(tmp_path / "labels.csv")) == judged
    with pytest.raises(InputError, match="has no image for training"):
        open_data(tmp_path / "labels.csv")
