"""Damaged, truncated and hostile files: a clear error, no code run, bounded memory."""

import struct
import tracemalloc
import zipfile
from contextlib import contextmanager

import numpy as np
import pytest
from helpers.damage import COUNTS, refusals
from helpers.portables import drawn

from minialex.errors import InputError
from minialex.exchange import metadata
from minialex.exchange.pytorch import state_dict, writer
from minialex.exchange.read import read
from minialex.exchange.write import write
from minialex.layers import Conv2D, Dense, MaxPool, ReLU, ResponseNorm
from minialex.network import Network
from minialex.utils import checkpoint

SMALL = Network(
    (
        ("conv1", Conv2D(2, 3, pad=1)),
        ("relu1", ReLU()),
        ("norm1", ResponseNorm(n=3)),
        ("pool1", MaxPool(3, 2, rounding="ceil")),
        ("fc2", Dense(3)),
    ),
    (6, 6, 3),
)
STATE = {
    f"{name}.{what}": np.ones(shape if what == "weight" else shape[:1], np.float32)
    for name, shape in {
        "features.0": (1, 3, 11, 11),
        "features.3": (1, 1, 5, 5),
        "features.6": (1, 1, 3, 3),
        "features.8": (1, 1, 3, 3),
        "features.10": (1, 1, 3, 3),
        "classifier.1": (2, 1),
        "classifier.4": (2, 2),
        "classifier.6": (2, 2),
    }.items()
    for what in ("weight", "bias")
}


@contextmanager
def at_most(megabytes):
    """Fail if more memory than that is used at any moment."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < megabytes * 1e6
    finally:
        tracemalloc.stop()


@contextmanager
def refused(*words):
    """An error of one sentence with all of the words, and little memory."""
    with at_most(24), pytest.raises(InputError) as caught:
        yield
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


# ------------------------------------------------------------------------------------ fuzzing


KINDS = ("a.pth", "described.pth", "legacy.pth", "a.safetensors", "b.safetensors", "a.onnx")


def whole(folder, kind):
    """A file of this kind."""
    path = folder / kind
    if kind == "legacy.pth":
        torch = pytest.importorskip("torch", reason="PyTorch writes the older kind of its files")
        state = {name: torch.from_numpy(value) for name, value in STATE.items()}
        torch.save(state, path, _use_new_zipfile_serialization=False)
    elif kind == "a.pth":
        writer.write(path, STATE)
    elif kind == "described.pth":
        write(drawn(SMALL), path)
    elif kind == "a.safetensors":
        checkpoint.write(path, STATE, {})
    else:
        pytest.importorskip("onnx", reason="the onnx package is not installed")
        write(drawn(SMALL), path)
    return path


@COUNTS
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_load_or_raise_input_error(kind, count, tmp_path):
    """Each is read, or refused with one sentence, and nothing else happens."""
    path = whole(tmp_path, kind)
    read(path)
    assert len(refusals(path, read, count)) > 0.3 * count


# ------------------------------------------------------------------------------------ made to harm


def torch_zip(path, pickled, *, compress=False, **entries):
    """A file as torch.save makes it, with this pickle."""
    kind = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", kind) as archive:
        archive.writestr("archive/data.pkl", pickled)
        for name, content in entries.items():
            archive.writestr(f"archive/data/{name.removeprefix('n')}", content)
    return path


def pickled_tensor(count, shape, strides, offset=0):
    """The pickle of {"a.weight": tensor} on the numbers "0"."""
    made = writer._pickle({"a.weight": np.zeros(1, np.float32)})
    claimed = made.replace(b"J\x01\0\0\0tQ", writer._number(count) + b"tQ")
    view = writer._number(0) + writer._tuple((1,)) + writer._tuple((1,))
    wanted = [writer._number(offset), writer._tuple(shape)]
    changed = claimed.replace(view, b"".join([*wanted, writer._tuple(strides)]))
    assert changed != claimed or shape == (1,)
    return changed


SYSTEM = b"\x80\x02cos\nsystem\nX\x0a\0\0\0touch harm\x85R."


@pytest.mark.parametrize("start", [b"", b"older"])
def test_a_pickle_that_names_os_system_runs_nothing(start, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if start:
        magic = b"\x8a\x0a" + 0x1950A86A20F9469CFC6C.to_bytes(10, "little")
        header = b"\x80\x02" + magic + b".\x80\x02M\xe9\x03.\x80\x02}."
        (tmp_path / "w.pth").write_bytes(header + SYSTEM + b"\x80\x02].")
    else:
        torch_zip(tmp_path / "w.pth", SYSTEM)
    with refused("os.system", "code in a pickle is never run", "state_dict()"):
        read(tmp_path / "w.pth")
    assert [one.name for one in tmp_path.iterdir()] == ["w.pth"]


@pytest.mark.parametrize(
    ("pickled", "words"),
    [
        (pickled_tensor(1 << 40, (1 << 20, 1 << 20), (1 << 20, 1)), "numbers"),
        (pickled_tensor(4, (1 << 20, 1 << 20), (0, 0)), "has 4 numbers"),
        (pickled_tensor(4, (2, 2), (2, 4)), "ends after"),
        (pickled_tensor(4, (4,), (1,), offset=3), "ends after"),
        (pickled_tensor(4, (-4,), (1,)), "has 4 numbers"),
        (b"\x80\x02r\xff\xff\xff\x7f.", "memo index"),
        (b"\x80\x02" + b"(" * 1000 + b".", "damaged"),
        (b"\x80\x02]" + b"]a" * 100_000 + b".", "nor a PyTorch state dict"),
        (b"\x80\x02X\xff\xff\xff\x7fa.", "damaged"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)\x81.", "damaged"),
        (b"\x80\x02cos\nsystem\n)\x81.", "os.system"),
        (b"\x80\x02cargparse\nNamespace\n)\x81}X\x01\0\0\0acos\nsystem\nsb.", "os.system"),
        (b"\x80\x02}X\x01\0\0\0a]s.", "nor a PyTorch state dict"),
    ],
)
def test_a_pickle_with_false_claims_is_refused(pickled, words, tmp_path):
    path = torch_zip(tmp_path / "w.pth", pickled, n0=bytes(16))
    with refused(words):
        read(path)


@pytest.mark.parametrize(
    ("after", "changed", "what"),
    [
        (b"tQ", {"path": "secret"}, "Storage"),
        (b"ctorch\nFloatStorage\n", {"kind": "f8"}, "StorageKind"),
        (b"\x89ccollections\nOrderedDict\n)RtR", {"shape": (1 << 20,)}, "StoredTensor"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n", {"call": "secret"}, "Function"),
    ],
)
def test_a_pickle_cannot_change_what_it_is_read_with(after, changed, what, tmp_path, monkeypatch):
    """Weights were read from any file on the disk: its instruction BUILD fills an object."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_bytes(bytes(1000))
    [(key, value)] = changed.items()
    stored = writer._text(value) if isinstance(value, str) else writer._tuple(value)
    build = b"}" + writer._text(key) + stored + b"sb"
    description = writer._pickle(STATE)
    numbers = {f"n{i}": array.tobytes() for i, array in enumerate(STATE.values())}
    read(torch_zip(tmp_path / "good.pth", description, **numbers))
    path = torch_zip(tmp_path / "w.pth", description.replace(after, after + build), **numbers)
    with refused(f"it changes a {what} that is complete"):
        read(path)


def test_an_archive_that_unpacks_to_more_is_refused(tmp_path):
    path = torch_zip(tmp_path / "w.pth", bytes(100_000_000), compress=True)
    assert path.stat().st_size < 200_000
    with refused("100,000,000 bytes", "too many"):
        read(path)


def test_a_description_that_unpacks_to_more_is_refused(tmp_path):
    numbers = {f"n{i}": array.tobytes() for i, array in enumerate(STATE.values())}
    path = torch_zip(tmp_path / "w.pth", writer._pickle(STATE), **numbers)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/minialex.json", b'"' + bytes(100_000_000) + b'"')
    with refused("100,000,002 bytes in archive/minialex.json", "too many"):
        read(path)


def test_tensors_that_share_storage_cannot_multiply_memory(tmp_path):
    """Sixteen megabytes that each of a network's layers claims."""
    numbers = np.zeros(1 << 22, np.float32)
    keys = [f"classifier.{i}" for i in range(40)]
    state = {f"{k}.weight": numbers.reshape(2048, 2048) for k in keys}
    state |= {f"{k}.bias": numbers[:2048] for k in keys}
    description = writer._pickle(state)
    for i in range(1, 80):
        key, cpu = writer._text(str(i)), writer._text("cpu")
        description = description.replace(key + cpu, writer._text("0") + cpu)
    few, all_of_them = (writer._number(count) + b"tQ" for count in (2048, 1 << 22))
    description = description.replace(few, all_of_them)
    path = torch_zip(tmp_path / "w.pth", description, n0=numbers.tobytes())
    with refused("claims arrays of"):
        read(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("suffix", ["pth", "safetensors", "onnx"])
def test_weights_that_are_not_finite_are_refused(suffix, value, tmp_path):
    """Their predictions would not be numbers, or worse, all the same class."""
    if suffix == "onnx":
        pytest.importorskip("onnx", reason="the onnx package is not installed")
    portable = drawn(SMALL)
    portable.params["conv1"]["bias"][1] = value
    write(portable, tmp_path / f"w.{suffix}")
    with refused("not finite, in conv1.bias"):
        read(tmp_path / f"w.{suffix}")


def test_numbers_beyond_float32_are_refused_without_a_warning(tmp_path):
    state = {name: value.astype(np.float64) for name, value in STATE.items()}
    state["features.0.bias"][0] = 1e300
    checkpoint.write(tmp_path / "w.safetensors", state, {})
    with refused("not finite, in conv1.bias"):
        read(tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ('"beta": 0.75, "groups": 1', '"beta": 0.75, "groups": 0', "divided into 0 groups"),
        ('"mean": null', '"mean": [NaN, 1, 2]', "not finite"),
        ('"classes": 3', '"classes": 1e999', "damaged description"),
        ('"crop": ', '"crop": "x", "y": ', "damaged description"),
    ],
)
def test_a_description_with_impossible_values_is_refused(before, after, words, tmp_path):
    path = tmp_path / "w.safetensors"
    portable = drawn(SMALL)
    tensors, _ = state_dict.exported(portable, "w", False)
    about = metadata.described(portable)
    changed = {key: text.replace(before, after) for key, text in about.items()}
    assert changed != about
    checkpoint.write(path, tensors, changed)
    with refused(words):
        read(path)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_tensor_of_another_shape_is_refused(suffix, tmp_path):
    changed = {**STATE, "classifier.4.weight": np.ones((2, 3), np.float32)}
    write = writer.write if suffix == "pth" else lambda *a: checkpoint.write(*a, {})
    write(tmp_path / f"w.{suffix}", changed)
    with refused("classifier.4.weight is (2, 3), but fc7 needs (2, 2)"):
        read(tmp_path / f"w.{suffix}")
    write(tmp_path / f"w.{suffix}", {**STATE, "features.0.bias": np.ones(7, np.float32)})
    with refused("features.0.bias is (7,) but must be (1,)"):
        read(tmp_path / f"w.{suffix}")


def test_a_safetensors_header_that_claims_a_terabyte(tmp_path):
    path = tmp_path / "w.safetensors"
    claimed = b'"shape":[524288,524288],"data_offsets":[0,1099511627776]'
    header = b'{"a.weight":{"dtype":"F32",' + claimed + b"}}"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(64))
    with refused("not a weight file"):
        read(path)


# ------------------------------------------------------------------------------------ ONNX


@pytest.fixture
def onnx():
    return pytest.importorskip("onnx", reason="the onnx package is not installed")


@pytest.mark.parametrize(
    "content",
    [
        b"\x3a\xff\xff\xff\xff\x07",  # a graph of 2 GB
        b"\x08\x08\x3a\x80\x80\x80\x80\x08\x0a",
        b"\x08\x08",
        b"\x0a\x00" * 1000,
        b"not a protobuf at all",
    ],
)
@pytest.mark.usefixtures("onnx")
def test_a_protobuf_that_claims_two_gigabytes(content, tmp_path):
    (tmp_path / "w.onnx").write_bytes(content)
    with refused("damaged or not an ONNX file"):
        read(tmp_path / "w.onnx")


def changed_onnx(onnx, path, change):
    """A good file with its model changed."""
    write(drawn(SMALL), path)
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())


def tensor_of(model, name):
    return next(one for one in model.graph.initializer if one.name == name)


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", "link.bin", "gone.bin"])
def test_external_data_stays_in_its_folder(location, onnx, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(4000))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")

    def outside(model):
        tensor = tensor_of(model, "fc2.bias")
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)

    changed_onnx(onnx, folder / "w.onnx", outside)
    with refused("missing" if location == "gone.bin" else "outside the file's folder"):
        read(folder / "w.onnx")


def test_external_data_beside_the_file_is_read(onnx, tmp_path):
    write(drawn(SMALL), tmp_path / "w.onnx")
    expected = read(tmp_path / "w.onnx")
    model = onnx.load(tmp_path / "w.onnx")
    onnx.save(model, tmp_path / "e.onnx", save_as_external_data=True, size_threshold=0)
    found = read(tmp_path / "e.onnx")
    for layer, of in expected.params.items():
        for what, value in of.items():
            np.testing.assert_array_equal(found.params[layer][what], value)
    data = next(one for one in tmp_path.iterdir() if one.suffix not in (".onnx",))
    data.write_bytes(data.read_bytes()[:-40])
    with refused("is too short for"):
        read(tmp_path / "e.onnx")


def test_tensors_with_false_claims_are_refused(onnx, tmp_path):
    def huge(model):
        tensor_of(model, "fc2.weight").dims[:] = [1 << 20, 1 << 20]

    def short(model):
        tensor_of(model, "fc2.bias").dims[:] = [4]

    def negative(model):
        tensor_of(model, "fc2.bias").dims[:] = [-3]

    def described(model):
        """A weight that the graph makes: a terabyte of zeros."""
        model.graph.initializer.remove(tensor_of(model, "fc2.weight"))
        shape = onnx.numpy_helper.from_array(np.array([1 << 19, 1 << 19]), "s")
        model.graph.initializer.append(shape)
        made = onnx.helper.make_node("ConstantOfShape", ["s"], ["fc2.weight"])
        model.graph.node.insert(0, made)

    words = {huge: "damaged", short: "12", negative: "damaged", described: "too many"}
    for change, word in words.items():
        changed_onnx(onnx, tmp_path / "w.onnx", change)
        with refused(word):
            read(tmp_path / "w.onnx")


def test_a_weight_reused_in_a_thousand_layers_is_refused(onnx, tmp_path):
    weight = np.zeros((512, 512), np.float32)  # a megabyte
    names = [f"y{i}" for i in range(1000)]
    node = onnx.helper.make_node
    nodes = [node("MatMul", [a, "w"], [b]) for a, b in zip(["x", *names], names, strict=False)]
    info = onnx.helper.make_tensor_value_info
    inputs = [info("x", onnx.TensorProto.FLOAT, ["N", 512])]
    outputs = [info(names[-1], onnx.TensorProto.FLOAT, None)]
    tensors = [onnx.numpy_helper.from_array(weight, "w")]
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", inputs, outputs, tensors))
    (tmp_path / "w.onnx").write_bytes(model.SerializeToString())
    with refused("reuses weights"):
        read(tmp_path / "w.onnx")


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "onnx", None)
    (tmp_path / "w.onnx").write_bytes(b"\x08\x08")
    with refused("pip install 'minialex[exchange]'"):
        read(tmp_path / "w.onnx")
