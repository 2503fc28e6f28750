import shutil

import pytest
from helpers import ilsvrc

from minialex.data.sources.open import open_data, open_for_evaluation
from minialex.errors import InputError

NAMES = ("tench", "crane (n02012849)", "crane (n03126707)", "maillot")


def seen(data) -> list[int]:
    return [ilsvrc.label_of(data.image(i, 16)) for i in range(len(data))]


@pytest.fixture
def root(tmp_path):
    return ilsvrc.write_kaggle(tmp_path / "imagenet")


def test_labels_are_indices_of_sorted_wnids(root):
    splits = open_data(root)
    assert splits.train.class_ids == splits.val.class_ids == ilsvrc.WNIDS
    assert splits.train.class_names == NAMES
    assert (
        splits.train.labels.tolist() == seen(splits.train) == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    )
    assert splits.val.labels.tolist() == seen(splits.val) == [2, 1, 1, 3, 0, 0]
    assert splits.train.layout == splits.val.layout == "Kaggle's ILSVRC layout"
    assert splits.val.describe(0).endswith("CLS-LOC/val/ILSVRC2012_val_00000001.JPEG")
    assert len(open_for_evaluation(root)) == 6


def test_without_validation_images_are_held_out(root):
    shutil.rmtree(root / "ILSVRC" / "Data" / "CLS-LOC" / "val")
    splits = open_data(root, val_fraction=0.4)
    assert len(splits.train) + len(splits.val) == 12
    assert set(splits.train.labels) == set(splits.val.labels)
    assert len(open_for_evaluation(root)) == 12


def test_images_of_other_classes_are_left_out_and_named(root):
    solution = root / "LOC_val_solution.csv"
    solution.write_text(solution.read_text().replace("n03126707", "n09999999"))
    val = open_data(root).val
    assert val.labels.tolist() == seen(val) == [1, 1, 3, 0, 0]
    [line] = val.remarks.lines()
    what = "left out: images of classes that have no training images: 1"
    assert line == f"{what} (val/ILSVRC2012_val_00000001.JPEG)"


@pytest.mark.parametrize("level", ["ILSVRC", "ILSVRC/Data", "ILSVRC/Data/CLS-LOC"])
def test_any_folder_of_the_tree_can_be_given(root, level):
    splits = open_data(root / level)
    assert splits.val.labels.tolist() == seen(splits.val) == [2, 1, 1, 3, 0, 0]
    assert splits.train.class_names == NAMES


def test_an_unusable_tree_gives_a_one_sentence_error(root):
    def refused(sentence):
        with pytest.raises(InputError, match=sentence):
            open_data(root)

    images, solution = root / "ILSVRC" / "Data" / "CLS-LOC", root / "LOC_val_solution.csv"
    table = solution.read_text()
    solution.write_text("\n".join(table.splitlines()[:-1]))
    refused(r"val_00000001\.JPEG' has no label, because .*LOC_val_solution\.csv does not name it")
    solution.write_text("id,class\n")
    refused("does not start with ImageId,PredictionString")
    solution.unlink()
    refused(r"labels are in LOC_val_solution\.csv, which is missing")
    solution.write_text(table)
    shutil.rmtree(images / "val")
    (images / "val").mkdir()
    refused("val' has no image")
    shutil.rmtree(images / "train")
    refused("there is no .*train': unpack the whole Kaggle archive")
