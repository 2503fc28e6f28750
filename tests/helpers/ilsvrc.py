"""Generates small ILSVRC-like archives and kits."""

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

WNIDS = ("n01440764", "n02012849", "n03126707", "n03710637")
WORDS = ("tench, Tinca tinca", "crane", "crane", "maillot, tank suit")
KIT_ORDER = (3, 1, 4, 2)  # ILSVRC2012_ID of each wnid: not the sorted order
TRUTH = (4, 1, 1, 2, 3, 3)  # the kit's numbers of six validation images
PARENT = "n00001740"  # a synset with children, which is no class


def jpeg(label: int, seed: int = 0, size=(40, 30)) -> bytes:
    """A photograph of one grey level, 40 * label + seed, which tells its label."""
    content = io.BytesIO()
    Image.new("RGB", size, (40 * label + seed,) * 3).save(content, "JPEG", quality=95)
    return content.getvalue()


def label_of(pixels: np.ndarray) -> int:
    """The label of an image that `jpeg` made."""
    return int(pixels.mean() + 1) // 40


def tar_bytes(files: dict[str, bytes], format=tarfile.GNU_FORMAT) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=format) as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            entry.mtime = 1.5  # stored by pax in a separate field
            archive.addfile(entry, io.BytesIO(data))
    return content.getvalue()


def meta_mat(order=KIT_ORDER, counts=None, year=2012) -> bytes:
    """meta.mat as MATLAB wrote it: a struct array of the classes, and one parent.

    `counts` are the numbers of training images, as in the real one.
    """
    kind = [
        (f"ILSVRC{year}_ID", "O"),
        ("WNID", "O"),
        ("words", "O"),
        ("gloss", "O"),
        ("num_children", "O"),
    ]
    rows = sorted(
        (number, w, words, "", 0) for number, w, words in zip(order, WNIDS, WORDS, strict=True)
    )
    rows.append((len(rows) + 1, PARENT, "entity", "", 2))
    synsets = np.zeros((len(rows), 1), kind)
    for row, values in enumerate(rows):
        synsets[row, 0] = values
    if counts is not None:
        told = dict(zip(WNIDS, counts, strict=True))
        wider = np.zeros(synsets.shape, [*kind, ("num_train_images", "O")])
        for name, _ in kind:
            wider[name] = synsets[name]
        for row in wider[:, 0]:
            row["num_train_images"] = told.get(row["WNID"], 0)
        synsets = wider
    content = io.BytesIO()
    savemat(content, {"synsets": synsets})
    return content.getvalue()


def kit_files(truth=TRUTH, year=2012, **options) -> dict[str, bytes]:
    top = {2012: "ILSVRC2012_devkit_t12/data", 2010: "devkit-1.0/data"}[year]
    lines = "".join(f"{n}\n" for n in truth).encode()
    return {
        f"{top}/meta.mat": meta_mat(year=year, **options),
        f"{top}/ILSVRC{year}_validation_ground_truth.txt": lines,
    }


def write_kit(folder: Path, year=2012, **options) -> Path:
    import gzip

    path = folder / {2012: "ILSVRC2012_devkit_t12.tar.gz", 2010: "devkit-1.0.tar.gz"}[year]
    path.write_bytes(gzip.compress(tar_bytes(kit_files(year=year, **options))))
    return path


def class_tars(wnids=WNIDS, count: int = 3, format=tarfile.GNU_FORMAT) -> dict[str, bytes]:
    """The tars inside the training tar; images are numbered as ILSVRC numbers them."""
    return {
        f"{wnid}.tar": tar_bytes(
            {f"{wnid}_{10 + i}.JPEG": jpeg(WNIDS.index(wnid), i) for i in range(count)}, format
        )
        for wnid in wnids
    }


def write_archives(folder: Path, wnids=WNIDS, count: int = 3, format=tarfile.GNU_FORMAT) -> Path:
    """Training tar, validation tar and kit; the training classes are in reverse order."""
    folder.mkdir(parents=True, exist_ok=True)
    inner = class_tars(wnids, count, format)
    backwards = dict(sorted(inner.items(), reverse=True))
    (folder / "ILSVRC2012_img_train.tar").write_bytes(tar_bytes(backwards, format))
    (folder / "ILSVRC2012_img_val.tar").write_bytes(tar_bytes(val_files(), format))
    write_kit(folder)
    return folder


def write_2010(folder: Path) -> Path:
    """The same as ILSVRC-2010's archives have it: other names, validation images in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ILSVRC2010_images_train.tar").write_bytes(tar_bytes(class_tars()))
    flat = {f"val/{name}": data for name, data in val_files(2010).items()}
    (folder / "ILSVRC2010_images_val.tar").write_bytes(tar_bytes(flat))
    write_kit(folder, 2010, counts=(3, 3, 3, 3))
    return folder


def val_files(year=2012) -> dict[str, bytes]:
    """Validation images whose grey level is that of the right label, the last first."""
    files = {
        f"ILSVRC{year}_val_{number:08d}.JPEG": jpeg(KIT_ORDER.index(kit_number), 10 + number)
        for number, kit_number in enumerate(TRUTH, 1)
    }
    return dict(reversed(files.items()))


def write_kaggle(folder: Path) -> Path:
    """Kaggle's layout of the same images."""
    images = folder / "ILSVRC" / "Data" / "CLS-LOC"
    for label, wnid in enumerate(WNIDS):
        (images / "train" / wnid).mkdir(parents=True)
        for i in range(3):
            (images / "train" / wnid / f"{wnid}_{10 + i}.JPEG").write_bytes(jpeg(label, i))
    (images / "val").mkdir()
    for name, data in val_files().items():
        (images / "val" / name).write_bytes(data)
    rows = [
        f"{Path(name).stem},{WNIDS[label_of(np.array(Image.open(io.BytesIO(data))))]} 1 2 3 4 "
        for name, data in val_files().items()
    ]
    (folder / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *rows]))
    lines = [f"{wnid} {words}\n" for wnid, words in zip(WNIDS, WORDS, strict=True)]
    (folder / "LOC_synset_mapping.txt").write_text("".join(lines))
    return folder
