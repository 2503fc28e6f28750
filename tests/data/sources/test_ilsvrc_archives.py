"""ILSVRC's archives: labels are right whatever the order, and nothing is unpacked."""

import gzip
import io
import tarfile

import numpy as np
import pytest
from helpers import ilsvrc
from scipy.io import loadmat

from minialex.data.inspect.check import check_data
from minialex.data.sources import ilsvrc_devkit
from minialex.data.sources.open import open_data, open_for_evaluation
from minialex.data.sources.tar import members
from minialex.errors import InputError

NAMES = ("tench", "crane (n02012849)", "crane (n03126707)", "maillot")


def seen(data) -> list[int]:
    """The labels shown by the images, to compare with `data.labels`."""
    return [ilsvrc.label_of(data.image(i, 16)) for i in range(len(data))]


@pytest.fixture
def root(tmp_path):
    return ilsvrc.write_archives(tmp_path / "imagenet")


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_labels_are_indices_of_sorted_wnids(tmp_path, format):
    root = ilsvrc.write_archives(tmp_path / "imagenet", format=format)
    splits = open_data(root)
    assert splits.train.class_ids == splits.val.class_ids == ilsvrc.WNIDS
    assert splits.train.class_names == NAMES
    assert (
        splits.train.labels.tolist() == seen(splits.train) == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    )
    assert splits.val.labels.tolist() == seen(splits.val) == [2, 1, 1, 3, 0, 0]
    assert splits.train.labels.dtype == np.int64
    assert splits.train.native_size == splits.val.native_size == 30
    assert splits.train.name == "imagenet"
    assert splits.train.layout == "ILSVRC-2012 archives, 4 classes"
    assert splits.train.describe(3).endswith(
        "ILSVRC2012_img_train.tar:n02012849.tar:n02012849_10.JPEG"
    )
    assert splits.train.read(3) == ilsvrc.jpeg(1, 0)
    assert sorted(p.name for p in root.iterdir()) == sorted(
        ["ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz"]
    )


def test_an_archive_stands_for_its_folder(root):
    assert len(open_data(root / "ILSVRC2012_img_train.tar").train) == 12


def test_the_kit_may_be_unpacked(root):
    (root / "ILSVRC2012_devkit_t12.tar.gz").unlink()
    for name, content in ilsvrc.kit_files().items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    assert seen(open_data(root).val) == [2, 1, 1, 3, 0, 0]


def test_without_validation_images_are_held_out(root):
    (root / "ILSVRC2012_img_val.tar").unlink()
    (root / "ILSVRC2012_devkit_t12.tar.gz").unlink()
    splits = open_data(root, val_fraction=0.4)
    assert len(splits.train) + len(splits.val) == 12
    assert set(splits.train.labels) == set(splits.val.labels) == {0, 1, 2, 3}
    assert splits.train.class_names == ilsvrc.WNIDS
    assert "no development kit" in splits.train.layout
    assert len(open_for_evaluation(root)) == 12


def test_a_subset_of_classes(tmp_path):
    root = ilsvrc.write_archives(tmp_path, wnids=ilsvrc.WNIDS[:2])
    splits = open_data(root)
    assert splits.val.labels.tolist() == seen(splits.val) == [1, 1, 0, 0]
    assert "4 of 6 validation images" in splits.val.layout


def test_the_validation_archive_alone_suffices_for_evaluation(root):
    (root / "ILSVRC2012_img_train.tar").unlink()
    val = open_for_evaluation(root)
    assert val.class_ids == ilsvrc.WNIDS
    assert val.labels.tolist() == seen(val)
    with pytest.raises(InputError, match=r"no ILSVRC2012_img_train\.tar to train on"):
        open_data(root)


def test_entries_that_are_not_files_are_skipped(root, tmp_path):
    """Links, devices and names that lead out of the archive are never followed."""
    secret = tmp_path / "secret.JPEG"
    secret.write_bytes(ilsvrc.jpeg(3))
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, kind in [
            ("n02012849_1.JPEG", tarfile.SYMTYPE),
            ("n02012849_2.JPEG", tarfile.LNKTYPE),
            ("n02012849_3.JPEG", tarfile.CHRTYPE),
            ("n02012849_4.JPEG", tarfile.FIFOTYPE),
            ("folder", tarfile.DIRTYPE),
            ("../../../n02012849_5.JPEG", tarfile.REGTYPE),
            ("/etc/n02012849_6.JPEG", tarfile.REGTYPE),
        ]:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, str(secret)
            data = ilsvrc.jpeg(1) if kind == tarfile.REGTYPE else b""
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    inner = {**ilsvrc.class_tars(), "n02012849.tar": content.getvalue(), "../n02012850.tar": b""}
    (root / "ILSVRC2012_img_train.tar").write_bytes(ilsvrc.tar_bytes(inner))
    before = sorted(tmp_path.rglob("*"))
    train = open_data(root).train
    assert train.class_ids == ilsvrc.WNIDS
    of_class = np.flatnonzero(train.labels == 1)
    assert [train.names[i] for i in of_class] == [
        "n02012849.tar:../../../n02012849_5.JPEG",
        "n02012849.tar:/etc/n02012849_6.JPEG",
    ]
    assert [seen(train)[i] for i in of_class] == [1, 1]
    assert {name for names in train.remarks.names.values() for name in names} == {
        *(f"n02012849.tar:n02012849_{i}.JPEG" for i in range(1, 5)),
        "n02012849.tar:folder/",
        "../n02012850.tar",
    }
    assert sorted(tmp_path.rglob("*")) == before


def test_archives_with_holes_or_joined_archives_are_refused(root):
    """Both end a tar early by its rules, and the classes after that would be lost."""
    train = root / "ILSVRC2012_img_train.tar"
    whole, inner = train.read_bytes(), ilsvrc.class_tars()
    joined = b"".join(ilsvrc.tar_bytes({f"{wnid}.tar": tar}) for wnid, tar in inner.items())
    second = 512 + len(inner["n03710637.tar"])  # the header of the second class
    image = 512 + 512 * 3  # the header of an image of the first class
    for damaged, where in (
        (joined, r"img_train\.tar"),
        (whole[:second] + bytes(1024) + whole[second + 1024 :], r"img_train\.tar"),
        (whole[:image] + bytes(1024) + whole[image + 1024 :], r"img_train\.tar:n03710637\.tar"),
    ):
        train.write_bytes(damaged)
        with pytest.raises(
            InputError, match=rf"{where} has its end mark at byte [\d,]+ but more data"
        ):
            open_data(root)


def test_missing_images_are_reported_from_the_kit(root):
    ilsvrc.write_kit(root, counts=(3, 4, 3, 3))
    train = open_data(root).train
    [sentence] = train.remarks.problems()
    assert sentence.startswith("1 training images are missing according to the development kit")
    assert "n02012849 has 3 of 4" in sentence
    report = check_data(root)
    assert "n02012849 has 3 of 4" in report.partition("problems:")[2]
    files = ilsvrc.val_files()
    files.pop("ILSVRC2012_val_00000002.JPEG")
    (root / "ILSVRC2012_img_val.tar").write_bytes(ilsvrc.tar_bytes(files))
    assert "1 of the 6 validation images" in check_data(root).partition("problems:")[2]
    ilsvrc.write_archives(root, wnids=ilsvrc.WNIDS[:3])
    ilsvrc.write_kit(root, counts=(3, 3, 3, 3))
    [sentence] = open_data(root).train.remarks.problems()
    assert sentence.startswith("1 of the 4 classes of the development kit have no training images")


@pytest.mark.parametrize("prefix", ["._", "__MACOSX/", "@eaDir/"])
def test_operating_system_files_are_not_images(root, prefix):
    inner = ilsvrc.class_tars()
    inner["n02012849.tar"] = ilsvrc.tar_bytes(
        {f"{prefix}n02012849_1.JPEG": b"\0\x05\x16\x07", "n02012849_1.JPEG": ilsvrc.jpeg(1)}
        | {"n02012849_2.heic": b"", "n02012849_3": ilsvrc.jpeg(1), "list": b"text"}
    )
    outer = {"._n02012849.tar": b"\0\x05\x16\x07", **inner}
    (root / "ILSVRC2012_img_train.tar").write_bytes(ilsvrc.tar_bytes(outer))
    train = open_data(root).train
    assert [n for n in train.names if n.startswith("n02012849")] == [
        "n02012849.tar:n02012849_1.JPEG",
        "n02012849.tar:n02012849_3",
    ]
    lines = "\n".join(train.remarks.lines())
    assert "operating-system files, such as macOS's ._ files: 2" in lines
    assert "HEIC files, not supported (convert them to JPEG): 1" in lines
    assert "files without a suffix, not images: 1" in lines


def test_long_names(root):
    long = "x" * 150
    for format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        inner = ilsvrc.class_tars()
        inner["n02012849.tar"] = ilsvrc.tar_bytes({f"{long}.JPEG": ilsvrc.jpeg(1)}, format)
        (root / "ILSVRC2012_img_train.tar").write_bytes(ilsvrc.tar_bytes(inner, format))
        assert f"n02012849.tar:{long}.JPEG" in open_data(root).train.names


def test_unusable_archives_give_a_one_sentence_error(root):
    def refused(sentence):
        with pytest.raises(InputError, match=sentence):
            open_data(root)

    train, val = root / "ILSVRC2012_img_train.tar", root / "ILSVRC2012_img_val.tar"
    kit = root / "ILSVRC2012_devkit_t12.tar.gz"
    whole, labels = train.read_bytes(), kit.read_bytes()

    train.write_bytes(whole[: len(whole) // 2])
    refused(r"img_train\.tar ends before its member 'n0\d+\.tar' does .*download it again")
    train.write_bytes(whole[:512] + b"x" * 512 + whole[1024:])
    refused(r"img_train\.tar:n03710637\.tar has no valid tar header at byte 512 .*checksum")
    train.write_bytes(b"")
    refused("ends in the middle of a tar header, after 0 bytes")
    train.write_bytes(ilsvrc.tar_bytes({"n01440764.tar": ilsvrc.tar_bytes({"a": b""})}))
    refused("has 1 class archives .* at least two")
    train.write_bytes(ilsvrc.tar_bytes({**ilsvrc.class_tars(), "n02012849.tar": bytes(1024)}))
    refused(r"n02012849\.tar holds no image")
    inner = {**ilsvrc.class_tars(), "n09999999.tar": ilsvrc.tar_bytes({"a.JPEG": b""})}
    train.write_bytes(ilsvrc.tar_bytes(inner))
    refused("a class n09999999 that is not in the development kit")
    train.write_bytes(whole)

    kit.unlink()
    refused(r"labels of .*img_val\.tar are in ILSVRC2012_devkit_t12\.tar\.gz, which is missing")
    kit.write_bytes(labels[:-20])
    refused("incomplete or not a gzip file")
    kit.write_bytes(gzip.compress(ilsvrc.tar_bytes({"a": b""})))
    refused(r"has no data/meta\.mat")
    kit.write_bytes(gzip.compress(bytes(65 << 20)))
    refused("unpacks to over 64 MiB")
    ilsvrc.write_kit(root, truth=(1, 2, 99))
    refused("uses class number 99, which data/meta.mat does not define")
    ilsvrc.write_kit(root, truth=(1, 2))
    refused("has labels for images 1 to 2 only")
    ilsvrc.write_kit(root, order=(1, 1, 2, 3))
    refused("does not number its 4 classes from 1 to 4")
    files = {name: b"MATLAB" for name in ilsvrc.kit_files()}
    kit.write_bytes(gzip.compress(ilsvrc.tar_bytes(files)))
    refused(r"data/meta\.mat of .* cannot be read")
    kit.write_bytes(labels)
    val.write_bytes(ilsvrc.tar_bytes({"ILSVRC2012_val_1.JPEG": b""}))
    refused("has no validation image")


def test_the_real_kit_maps_to_sorted_wnids(shared_data):
    """Against an independent list: Caffe's synset_words.txt, which is sorted by wnid."""
    kit = ilsvrc_devkit.read(shared_data / "ilsvrc2012_devkit")
    lines = (shared_data / "ilsvrc2012_devkit" / "synset_words.txt").read_text().splitlines()
    caffe = dict(line.split(" ", 1) for line in lines)
    assert sorted(kit.wnids.values()) == list(caffe)
    assert kit.words == caffe
    assert len(kit.truth) == 50_000
    assert kit.wnid_of(0) is None
    assert kit.wnid_of(50_001) is None
    labels = [list(caffe).index(kit.wnid_of(n)) for n in range(1, 101)]
    # Caffe's val.txt begins with these: ILSVRC2012_val_00000001.JPEG 65 and so on.
    assert labels[:10] == [65, 970, 230, 809, 516, 57, 334, 415, 674, 332]
    assert np.bincount(kit.truth)[1:].tolist() == [50] * 1000
    assert [list(caffe).index(kit.wnids[n]) for n in range(1, 1001)] != list(range(1000))
    meta = loadmat(shared_data / "ilsvrc2012_devkit" / "data" / "meta.mat", squeeze_me=True)
    for row in meta["synsets"][[0, 489, 999]]:
        assert kit.wnids[row["ILSVRC2012_ID"]] == row["WNID"]


def test_real_validation_photographs_have_their_labels(shared_data):
    """Photographs named by validation number are in the folder of the class that it maps to."""
    kit = ilsvrc_devkit.read(shared_data / "ilsvrc2012_devkit")
    found = list((shared_data / "imagenette").glob("*/*/ILSVRC2012_val_*.JPEG"))
    assert len(found) > 100
    for path in found:
        assert kit.wnid_of(int(path.stem.rpartition("_")[2])) == path.parent.name


def test_an_invalid_size_gives_a_one_sentence_error():
    """A pax size may have any number of digits, but Python's int has a limit."""
    note = b"size=" + b"9" * 5000 + b"\n"
    note = str(len(note) + 5).encode() + b" " + note
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, kind, data in (("pax", tarfile.XHDTYPE, note), ("a.JPEG", tarfile.REGTYPE, b"x")):
            entry = tarfile.TarInfo(name)
            entry.type, entry.size = kind, len(data)
            archive.addfile(entry, io.BytesIO(data))
    with pytest.raises(InputError, match="more than 20 digits"):
        list(members(content, "archive.tar"))
