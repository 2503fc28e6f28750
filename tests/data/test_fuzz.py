"""Damaged and hostile files: an InputError or an image, in bounded time and memory, nothing else.

The default run tries a bounded number of each; `pytest -m slow` tries thousands.
"""

import io
import json
import os
import shutil
import struct
import sys
import zlib

import numpy as np
import pytest
from helpers import ilsvrc
from PIL import Image

from minialex.data.decode import images
from minialex.data.loading.loader import Loader
from minialex.data.packed.dataset import open_packed
from minialex.data.packed.format import checksum
from minialex.data.packed.prepare import prepare
from minialex.data.sources import ilsvrc_devkit
from minialex.data.sources.ilsvrc_archives import open_archives
from minialex.data.sources.open import open_data
from minialex.data.sources.tar import members
from minialex.errors import InputError

COUNTS = [pytest.param(150), pytest.param(3000, marks=pytest.mark.slow)]
MEMORY = 256 << 20  # bytes that no small file may make the decoder take


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """Bytes changed, cut, doubled, removed, or set to extreme values, one to eight times."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 9)):
        if not data:
            break
        start, length = int(rng.integers(len(data))), int(rng.integers(1, 65))
        match rng.integers(6):
            case 0:
                data[start] = int(rng.integers(256))
            case 1:
                data[start] ^= 1 << int(rng.integers(8))
            case 2:
                data[start : start + length] = bytes([rng.choice([0, 0x7F, 0x80, 0xFF])]) * length
            case 3:
                del data[start : start + length]
            case 4:
                data[start:start] = data[start : start + length]
            case _:
                del data[start:]
    return bytes(data)


def complaint(function, *arguments, **options):
    """(result, None), or (None, message) if `function` raises InputError."""
    try:
        return function(*arguments, **options), None
    except InputError as error:
        return None, str(error)


def peak_memory() -> int:
    """This process's peak memory in bytes, decoders included; 0 if unknown."""
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024)


def picture(kind: str, **options) -> bytes:
    content = io.BytesIO()
    image = Image.effect_mandelbrot((96, 64), (-2, -1, 1, 1), 40).convert("RGB")
    image.save(content, kind, **options)
    return content.getvalue()


@pytest.mark.filterwarnings("ignore")  # Pillow warns of what it repairs
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("GIF", {}),
        ("WEBP", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("BMP", {}),
    ],
    ids=lambda v: v if isinstance(v, str) else "".join(v),
)
def test_mutated_images_decode_or_raise_input_error(kind, options, count):
    whole = picture(kind, **options)
    rng = np.random.default_rng(len(whole))
    read = 0
    before = peak_memory()
    for _ in range(count):
        data = mutated(whole, rng)
        pixels, sentence = complaint(images.load_resized, data, 16, "it")
        if sentence is not None:
            assert sentence.startswith("it ")
            continue
        assert pixels.shape == (16, 16, 3)
        assert pixels.dtype == np.uint8
        read += 1
    assert peak_memory() - before < MEMORY
    assert read < count  # some damage was noticed


@pytest.mark.parametrize("count", COUNTS)
def test_mutated_archives_open_or_raise_input_error(tmp_path, count):
    """Everything found lies inside the file, under existing names."""
    root = ilsvrc.write_archives(tmp_path / "imagenet")
    paths = [root / name for name in ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar")]
    paths.append(root / ilsvrc_devkit.EDITIONS[0].kits[0])
    whole = [path.read_bytes() for path in paths]
    rng = np.random.default_rng(1)
    opened = 0
    for number in range(count):
        which = number % 3
        data = bytearray(whole[which])
        if rng.integers(2):  # aim at the headers: most bytes of an archive are images
            block = 512 * int(rng.integers(-(-len(data) // 512)))
            data[block : block + 512] = mutated(bytes(data[block : block + 512]), rng)
        else:
            data = bytearray(mutated(bytes(data), rng))
        paths[which].write_bytes(data)
        splits, sentence = complaint(open_archives, root, seed=0, val_fraction=0.1)
        if splits is None:
            assert str(root) in sentence
        else:
            opened += 1
            for part in (splits.train, splits.val):
                assert 0 <= part.labels.min() <= part.labels.max() < len(part.class_ids)
                assert (part.offsets + part.sizes <= part.archive.stat().st_size).all()
                pixels, sentence = complaint(part.image, int(rng.integers(len(part))), 8)
                assert (
                    str(part.archive) in sentence if pixels is None else pixels.shape == (8, 8, 3)
                )
        paths[which].write_bytes(whole[which])
    assert 0 < opened < count


@pytest.mark.parametrize("count", COUNTS)
def test_random_headers_raise_input_error_in_time(count):
    """Blocks with valid checksums and random fields: the walk ends and stays inside the file."""
    rng = np.random.default_rng(2)
    for _ in range(count):
        blocks = []
        for _ in range(rng.integers(1, 6)):
            header = bytearray(rng.integers(0, 256, 512, np.uint8).tobytes())
            if rng.integers(2):
                header[124:136] = f"{rng.integers(0, 2000):011o}\0".encode()
            else:
                header[124] = rng.choice([0x80, 0xFF, 0x20])
            header[156:157] = rng.choice([b"0", b"5", b"2", b"x", b"g", b"L", b"K", b"S"])
            header[148:156] = b"        "
            header[148:156] = f"{sum(header):06o}\0 ".encode()
            blocks.append(bytes(header))
        data = b"".join(blocks) + bytes(1024)
        found, sentence = complaint(lambda data=data: list(members(io.BytesIO(data), "it")))
        if found is None:
            assert sentence.startswith("it ")
            continue
        assert all(m.offset + m.size <= len(data) for m in found)


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed")
    for name, jpeg in (("pixels", False), ("jpeg", True)):
        prepare("shapes:48", folder / name, size=16, jpeg=jpeg, progress=False)
    return folder


def lies(values, rng) -> None:
    """Change, remove or add one value somewhere in a JSON document."""
    strange = [
        0,
        -1,
        1,
        2**31,
        2**63,
        2**70,
        1.5,
        1e300,
        None,
        True,
        "",
        "..",
        "/etc/passwd",
        [],
        {},
    ]
    strange += ["../x", "a\0b", "x" * 300, [1, 2], "mean.npy", "manifest.json", "\udcff", 10**400]
    holder = values
    while True:
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        if not keys:
            return
        key = keys[rng.integers(len(keys))]
        if isinstance(holder[key], dict | list) and holder[key] and rng.integers(4):
            holder = holder[key]
            continue
        if rng.integers(5) == 0:
            del holder[key]
        elif isinstance(holder[key], int) and rng.integers(2):
            holder[key] += int(rng.choice([-1, 1, 100]))
        else:
            holder[key] = strange[rng.integers(len(strange))]
        return


def read_all(root):
    splits = open_packed(root)
    for part in (splits.train, splits.val):
        for batch in Loader(part, 16, workers=1).batches(np.arange(len(part)), 16):
            assert batch.images.shape[1:] == (16, 16, 3)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("kind", ["pixels", "jpeg"])
def test_false_manifests_are_refused(packed, tmp_path, kind, count):
    """With a valid checksum: refused, or consistent."""
    root = tmp_path / "packed"
    shutil.copytree(packed / kind, root)
    whole = (root / "manifest.json").read_text()
    rng = np.random.default_rng(3)
    refused = 0
    for _ in range(count):
        values = json.loads(whole)
        for _ in range(rng.integers(1, 3)):
            lies(values, rng)
        if "checksum" in values:
            values["checksum"] = checksum(values)
        (root / "manifest.json").write_text(json.dumps(values))
        splits, sentence = complaint(open_packed, root)
        if splits is None:
            assert str(root) in sentence
            refused += 1
            continue
        for part in (splits.train, splits.val):
            assert 0 <= part.labels.min() <= part.labels.max() < len(part.class_ids)
            for batch in Loader(part, 16, workers=1).batches(np.arange(len(part)), 16):
                assert batch.images.shape[1:] == (16, 16, 3)
            part.describe(len(part) - 1)
    assert refused > count // 2


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("kind", ["pixels", "jpeg"])
def test_damaged_packed_files(packed, tmp_path, kind, count):
    """Any file of the set, cut or changed: refused on opening, or images are read or reported."""
    root = tmp_path / "packed"
    shutil.copytree(packed / kind, root)
    paths = sorted(path for path in root.iterdir() if path.name != "report.txt")
    rng = np.random.default_rng(4)
    for number in range(count):
        path = paths[number % len(paths)]
        whole = path.read_bytes()
        path.write_bytes(mutated(whole, rng))
        _, sentence = complaint(read_all, root)
        assert sentence is None or str(root) in sentence
        path.write_bytes(whole)
    assert len(open_packed(root).train) == 48


def chunk(kind, body):
    crc = zlib.crc32(kind + body)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_an_image_of_50_000_by_50_000_is_left_out(photos, tmp_path, whole):
    """A file of 300 kB, or of its header alone: its pixels would take 7.5 GB."""
    if whole:
        Image.new("1", (50_000, 50_000)).save(photos / "train" / "cat" / "9.png")
    else:
        header = struct.pack(">IIBBBBB", 50_000, 50_000, 1, 0, 0, 0, 0)
        content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", bytes(9))
        (photos / "train" / "cat" / "9.png").write_bytes(content)
    before = peak_memory()
    done = prepare(photos, tmp_path / "packed", size=16, max_left_out=0.1, progress=False)
    assert peak_memory() - before < MEMORY
    assert "claims" in done.left_out["train/cat/9.png"]
    assert done.images == {"train": 10, "val": 4}


@pytest.mark.skipif(sys.platform != "linux", reason="the file system refuses such names")
def test_class_folders_with_undecodable_names(photos, tmp_path):
    import minialex

    strange = os.fsdecode(b"d\xf6g\xff")
    for part in ("train", "val"):
        (photos / part / "dog").rename(photos / part / strange)
        (photos / part / strange / "0.JPEG").rename(
            photos / part / strange / os.fsdecode(b"\xe9 \n.jpg")
        )
    prepare(photos, tmp_path / "packed", size=72, progress=False)
    options = {"model": "alexnet-64", "epochs": 1, "progress": False, "allow_upscaling": True}
    for source in (photos, tmp_path / "packed"):
        splits = open_data(source)
        assert splits.train.class_ids == ("cat", strange)
        assert len(splits.train) == 10
        result = minialex.train(source, out=tmp_path / f"run-{source.name}", **options)
        classifier = minialex.load(result.run_dir)
        assert classifier.class_ids == ("cat", strange)
        assert classifier.evaluate().images == 4
