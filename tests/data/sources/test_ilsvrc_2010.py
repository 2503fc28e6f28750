"""ILSVRC-2010, the data of the paper's table 1, opens as ILSVRC-2012 does."""

import pytest
from helpers import ilsvrc

from minialex.data.inspect.check import check_data
from minialex.data.sources.open import open_data, open_for_evaluation
from minialex.errors import InputError

VAL_LABELS = [2, 1, 1, 3, 0, 0]


@pytest.fixture
def root(tmp_path):
    return ilsvrc.write_2010(tmp_path / "imagenet")


def seen(data) -> list[int]:
    return [ilsvrc.label_of(data.image(i, 16)) for i in range(len(data))]


def test_its_archives(root):
    splits = open_data(root)
    assert splits.train.class_ids == splits.val.class_ids == ilsvrc.WNIDS
    assert splits.train.class_names[0] == "tench"
    assert splits.train.labels.tolist() == seen(splits.train)
    assert splits.val.labels.tolist() == seen(splits.val) == VAL_LABELS
    assert splits.train.layout == "ILSVRC-2010 archives, 4 classes"
    assert open_for_evaluation(root / "ILSVRC2010_images_val.tar").labels.tolist() == VAL_LABELS
    assert check_data(root).endswith("no problems found")


@pytest.mark.parametrize("name", ["ILSVRC2010_devkit-1.0.tar.gz", "devkit-1.0"])
def test_names_of_its_kit(root, name):
    kit = root / "devkit-1.0.tar.gz"
    if name.endswith(".gz"):
        kit.rename(root / name)
    else:
        kit.unlink()
        for file, content in ilsvrc.kit_files(year=2010).items():
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_bytes(content)
    assert open_data(root).val.labels.tolist() == VAL_LABELS


@pytest.mark.parametrize("kit", ["devkit-1.0", "val"])
def test_its_images_unpacked(root, tmp_path, kit):
    """Class folders and flat validation images, with the kit beside them or among them."""
    folder = tmp_path / "unpacked"
    for label, wnid in enumerate(ilsvrc.WNIDS):
        (folder / "train" / wnid).mkdir(parents=True)
        (folder / "train" / wnid / f"{wnid}_1.JPEG").write_bytes(ilsvrc.jpeg(label))
    (folder / "val").mkdir()
    for name, data in ilsvrc.val_files(2010).items():
        (folder / "val" / name).write_bytes(data)
    for file, content in ilsvrc.kit_files(year=2010).items():
        path = folder / file if kit == "devkit-1.0" else folder / kit / file.rpartition("/")[2]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    splits = open_data(folder)
    assert splits.val.labels.tolist() == seen(splits.val) == VAL_LABELS


def test_one_years_kit_does_not_label_the_others_images(root, tmp_path):
    """The numbers of the images are the same, their classes are not."""
    (root / "devkit-1.0.tar.gz").unlink()
    ilsvrc.write_kit(root)
    with pytest.raises(InputError, match=r"are in ILSVRC2010_devkit-1\.0\.tar\.gz, which is miss"):
        open_data(root)
    ilsvrc.write_archives(root)  # both years in one folder: the newer one is used, with its kit
    ilsvrc.write_kit(root, 2010, truth=(1, 1, 1, 1, 1, 1))
    assert open_data(root).train.layout == "ILSVRC-2012 archives, 4 classes"
    assert open_data(root).val.labels.tolist() == VAL_LABELS
    (root / "ILSVRC2012_img_train.tar").unlink()
    flat = tmp_path / "flat"
    for wnid in ilsvrc.WNIDS:
        (flat / "train" / wnid).mkdir(parents=True)
        (flat / "train" / wnid / f"{wnid}_1.JPEG").write_bytes(ilsvrc.jpeg(0))
    (flat / "val").mkdir()
    for name, data in ilsvrc.val_files(2010).items():
        (flat / "val" / name).write_bytes(data)
    ilsvrc.write_kit(flat)
    with pytest.raises(InputError):
        open_data(flat)


@pytest.mark.parametrize("lacking", ["meta.mat", "ground_truth.txt"])
def test_a_kit_with_a_file_missing(root, lacking):
    (root / "devkit-1.0.tar.gz").unlink()
    for file, content in ilsvrc.kit_files(year=2010).items():
        if not file.endswith(lacking):
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_bytes(content)
    words = "which is missing" if lacking == "meta.mat" else "lacks data/ILSVRC2010_validation"
    with pytest.raises(InputError, match=words):
        open_data(root)
