"""ImageNet and similar data sets in their common layouts on disk."""

import shutil

import numpy as np
import pytest
from helpers import ilsvrc
from PIL import Image

from minialex.data.inspect.check import check_data
from minialex.data.remarks import every_line
from minialex.data.sources import labels
from minialex.data.sources.class_folder_layouts import flat_folder
from minialex.data.sources.open import open_data, open_for_evaluation
from minialex.errors import InputError

WNIDS = ilsvrc.WNIDS


def seen(data) -> list[int]:
    return [ilsvrc.label_of(data.image(i, 16)) for i in range(len(data))]


@pytest.fixture
def root(tmp_path):
    """train/<wnid>/ and a flat val/ without labels."""
    kaggle = ilsvrc.write_kaggle(tmp_path / "kaggle") / "ILSVRC" / "Data" / "CLS-LOC"
    for part in ("train", "val"):
        shutil.copytree(kaggle / part, tmp_path / "imagenet" / part)
    shutil.rmtree(tmp_path / "kaggle")
    return tmp_path / "imagenet"


NAMED = zip(sorted(ilsvrc.val_files()), ilsvrc.TRUTH, strict=True)
VAL = [(name, ilsvrc.KIT_ORDER.index(number)) for name, number in NAMED]
KIT = "ILSVRC2012_devkit_t12/data"


def kit_at(folder, inside):
    for name, content in ilsvrc.kit_files().items():
        path = folder / inside / name.removeprefix(f"{KIT}/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def lines(folder, name, rows):
    (folder / name).write_text("".join(f"{row}\n" for row in rows))


LABELS = {
    "the kit's archive": lambda root: ilsvrc.write_kit(root),
    "the kit unpacked": lambda root: kit_at(root, KIT),
    "the kit's data": lambda root: kit_at(root, "data"),
    "the kit's files": lambda root: kit_at(root, "."),
    "Kaggle's table": lambda root: lines(
        root,
        "LOC_val_solution.csv",
        ["ImageId,PredictionString", *(f"{n[:-5]},{WNIDS[k]} 1 2 3 4 " for n, k in VAL)],
    ),
    "Caffe's val.txt": lambda root: lines(root, "val.txt", [f"{n} {k}" for n, k in VAL]),
    "val.txt inside": lambda root: lines(root / "val", "val.txt", [f"val/{n} {k}" for n, k in VAL]),
    "wnids by name": lambda root: lines(root, "val_map.txt", [f"{n}\t{WNIDS[k]}" for n, k in VAL]),
    "a table": lambda root: lines(
        root, "val.csv", ["filename,label", *(f"{n},{WNIDS[k]}" for n, k in VAL)]
    ),
    "a table of Excel": lambda root: lines(
        root, "val.csv", ["\ufefffile,label", *(f"{n},{WNIDS[k]}" for n, k in VAL)]
    ),
    "a later kit": lambda root: (
        lines(root, "ILSVRC2012_validation_ground_truth.txt", ilsvrc.TRUTH),
        lines(
            root,
            "map_clsloc.txt",
            [f"{w} {n} x" for w, n in zip(WNIDS, ilsvrc.KIT_ORDER, strict=True)],
        ),
    ),
    "their names": lambda root: [
        (root / "val" / n).rename(root / "val" / f"{n[:-5]}_{WNIDS[k]}.JPEG") for n, k in VAL
    ],
    "wnids in order": lambda root: lines(
        root, "imagenet_2012_validation_synset_labels.txt", [WNIDS[k] for _, k in VAL]
    ),
}


@pytest.mark.parametrize("given", LABELS)
def test_a_flat_val_opens_where_its_labels_can_be_read(root, given):
    LABELS[given](root)
    splits = open_data(root)
    assert splits.train.class_ids == splits.val.class_ids == WNIDS
    assert splits.val.labels.tolist() == seen(splits.val) == [2, 1, 1, 3, 0, 0]
    assert splits.train.labels.tolist() == seen(splits.train)
    assert splits.val.layout.startswith("class folders in train/, labels of val/ from ")
    assert every_line(splits.remarks) == []
    assert open_for_evaluation(root).labels.tolist() == [2, 1, 1, 3, 0, 0]
    assert check_data(root, 16).endswith("no problems found")


def test_class_numbers_may_follow_a_list_of_synsets(root):
    order = WNIDS[::-1]
    lines(root, "synsets.txt", order)
    lines(root, "val.txt", [f"{n} {order.index(WNIDS[k])}" for n, k in VAL])
    shutil.rmtree(root / "train" / WNIDS[0])  # numbers count classes that are not here
    val = open_data(root).val
    assert [val.class_ids[k] for k in val.labels] == [WNIDS[k] for k in seen(val)]
    assert "images of classes that have no training images: 2" in val.remarks.lines()[0]


def test_missing_indexed_files_are_a_problem(root):
    ilsvrc.write_kit(root, counts=(3, 3, 5, 3))
    (root / "val" / VAL[0][0]).unlink()
    problems = check_data(root, 16).partition("problems:")[2]
    assert "2 training images are missing according to the development kit" in problems
    assert "1 of the 6 images that ILSVRC2012_devkit_t12.tar.gz names are not in val/" in problems


def test_labels_that_do_not_fit_give_a_one_sentence_error(root):
    def refused(sentence):
        with pytest.raises(InputError, match=sentence):
            open_data(root)

    refused("val' holds 6 images, but no file gives their classes: put the development kit, LOC_")
    truth = root / "ILSVRC2012_validation_ground_truth.txt"
    truth.write_text("1\n2\n")
    refused("numbers the classes as the development kit does: put the kit's meta.mat beside it")
    truth.unlink()
    lines(root, "val.txt", [f"{n} {k + 1}" for n, k in VAL])
    refused(r"val\.txt numbers classes up to 4, but the training images have 4: put a synsets\.txt")
    lines(root, "val.txt", [f"{n} {k}" for n, k in VAL[:-1]] + ["other.JPEG 3"])
    refused(r"00000006\.JPEG' has no label, because .*val\.txt does not name it")
    lines(root, "val.txt", [f"{n} n99999999" for n, _ in VAL])
    refused("classes that the training images do not have, for example n99999999")
    lines(root, "val.txt", ["nothing"])
    refused("lists no images: expected a file name and a class on each line")


def write_tiny(folder):
    """Tiny ImageNet's layout."""
    for label, wnid in enumerate(WNIDS):
        images = folder / "train" / wnid / "images"
        images.mkdir(parents=True)
        for i in range(3):
            (images / f"{wnid}_{i}.JPEG").write_bytes(ilsvrc.jpeg(label, i))
        lines(images.parent, f"{wnid}_boxes.txt", [f"{wnid}_0.JPEG\t0\t0\t9\t9"])
    for part in ("val", "test"):
        (folder / part / "images").mkdir(parents=True)
    for i, label in enumerate([2, 0, 1, 3]):
        (folder / "val" / "images" / f"val_{i}.JPEG").write_bytes(ilsvrc.jpeg(label, 9))
        (folder / "test" / "images" / f"test_{i}.JPEG").write_bytes(ilsvrc.jpeg(label, 8))
    rows = [f"val_{i}.JPEG\t{WNIDS[k]}\t0\t32\t44\t62" for i, k in enumerate([2, 0, 1, 3])]
    lines(folder / "val", "val_annotations.txt", rows)
    lines(folder, "wnids.txt", WNIDS[::-1])
    named = zip(WNIDS, ilsvrc.WORDS, strict=True)
    lines(folder, "words.txt", [f"{wnid}\t{words}" for wnid, words in named])
    return folder


def test_tiny_imagenet_is_recognised(tmp_path):
    splits = open_data(write_tiny(tmp_path / "tiny-imagenet-200").parent)  # one level too high
    assert splits.train.name == "tiny-imagenet-200"
    assert splits.train.labels.tolist() == seen(splits.train) == np.repeat(range(4), 3).tolist()
    assert splits.val.labels.tolist() == seen(splits.val) == [2, 0, 1, 3]
    assert splits.train.class_names[0] == "tench"
    assert splits.val.describe(0).endswith("val/images/val_0.JPEG")
    assert check_data(tmp_path / "tiny-imagenet-200", 16).endswith("no problems found")


def fill(folder, names, count=3, seed=0):
    for k, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (20, 16), (50 * k, 9 * i, seed)).save(folder / name / f"{i}.png")


def test_classes_may_be_called_like_a_part(tmp_path):
    fill(tmp_path, ["car", "test", "train"])
    splits = open_data(tmp_path)
    assert splits.train.class_ids == ("car", "test", "train")
    assert splits.train.layout.startswith("class folders, about 10%")


def test_a_flat_test_folder_is_left_out_with_a_remark(tmp_path):
    fill(tmp_path / "train", ["a", "b"])
    fill(tmp_path, ["test"])
    splits = open_data(tmp_path)
    assert (len(splits.train), len(splits.val)) == (4, 2)
    assert every_line(splits.remarks) == [
        "left out: images without a label: 3 (test/0.png, test/1.png, test/2.png)"
    ]
    fill(tmp_path / "val", ["a", "b"], seed=1)
    assert len(open_data(tmp_path).val) == 6


@pytest.mark.parametrize("inside", [["data"], ["photos", "data"], ["__MACOSX", "data"]])
def test_a_parent_folder_stands_for_the_data_set_inside(tmp_path, inside):
    path = tmp_path / "x"
    if inside[0] == "__MACOSX":
        fill(path, ["__MACOSX"])
        inside = inside[1:]
    fill(path.joinpath(*inside), ["a", "b"])
    splits = open_data(path)
    assert (splits.train.name, splits.train.class_ids) == ("data", ("a", "b"))


def test_a_nested_data_set_is_named_in_the_error(tmp_path):
    fill(tmp_path / "x" / "dataset" / "train", ["a", "b"])
    fill(tmp_path / "x" / "annotations", ["notes"])
    with pytest.raises(InputError, match=r"x/dataset' looks like the data set rather than a class"):
        open_data(tmp_path / "x")
    fill(tmp_path / "y", ["deep/a", "deep/b", "wide/c"])
    with pytest.raises(InputError, match=r"deep' has images only in folders below.* in a table"):
        open_data(tmp_path / "y")


def test_eight_unreadable_files_do_not_condemn_a_class(tmp_path):
    fill(tmp_path, ["a", "b"])
    for number in range(9):
        (tmp_path / "a" / f"-{number}.png").write_bytes(b"")
    splits = open_data(tmp_path)
    assert len(splits.train) + len(splits.val) == 15
    assert "unreadable files, which training skips: 9" in check_data(tmp_path, 16)


def test_a_dot_in_a_listed_name_is_not_a_suffix(tmp_path):
    (tmp_path / "val.txt").write_text("img.1.png a\nimg.3.png b\n")
    found = labels.find([tmp_path], ("a", "b"))
    assert [found.of(f"img.{n}.png") for n in (1, 2, 3)] == ["a", None, "b"]
    assert found.of("img.3.jpg") == "b"


def flat(root, names, listed):
    """Class folders of training images, a flat val/, and its labels."""
    fill(root / "train", ["a", "b"])
    fill(root, ["val"])
    for path in (root / "val").iterdir():
        path.unlink()
    for name in names:
        shutil.copy(root / "train" / "a" / "0.png", root / "val" / name)
    (root / "val.txt").write_text(listed)


def test_missing_files_are_counted_by_list_entries(tmp_path):
    flat(tmp_path, ["x.png", "x.jpg", "y.png"], "x a\ny a\nz b\n")
    assert every_line(open_data(tmp_path).remarks) == [
        "1 of the 3 images that val.txt names are not in val/"
    ]


def test_an_image_with_two_listed_classes_is_refused(tmp_path):
    flat(tmp_path, ["x.png"], "a/x.png a\nb/x.png b\n")
    with pytest.raises(InputError, match=r"val.txt gives x.png two classes, a and b"):
        open_data(tmp_path)
    (tmp_path / "val.txt").write_text("a/y.png a\nb/y.png b\nx.png b\n")
    assert open_data(tmp_path).val.labels.tolist() == [1]


class Unsearchable(tuple):
    """Class ids that must not be searched linearly: there may be 20,000 of them."""

    def __contains__(self, _):
        raise AssertionError

    index = __contains__


def test_lookup_time_does_not_grow_with_the_classes(tmp_path):
    flat(tmp_path, ["x.png", "y.png"], "x a\ny b\n")
    known = labels.find([tmp_path], Unsearchable("ab"))
    assert flat_folder(tmp_path / "val", known, Unsearchable("ab")).classes == ("a", "b")


def test_a_list_in_another_encoding_is_refused(tmp_path):
    (tmp_path / "val.txt").write_bytes("x.png\ta\ny.png\tä\n".encode("cp1252"))
    with pytest.raises(InputError, match=r"val.txt is not in UTF-8 \(line 2\): save it again"):
        labels.find((tmp_path,), ("a", "ä"))


@pytest.mark.parametrize("name", ["val.txt", "val.csv"])
def test_a_list_may_be_utf_16(tmp_path, name):
    comma = "," if name.endswith("csv") else " "
    (tmp_path / name).write_bytes(f"x.png{comma}a\ny.png{comma}b\n".encode("utf-16"))
    assert labels.find([tmp_path], ("a", "b")).of("y.png") == "b"


def test_a_huge_class_number_gives_a_one_sentence_error(tmp_path):
    flat(tmp_path, ["x.png"], "x.png " + "9" * 5000)
    with pytest.raises(InputError, match="classes that the training images do not have"):
        open_data(tmp_path)
