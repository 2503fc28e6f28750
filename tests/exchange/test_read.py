"""A new format plugs in, and its files load as ordinary classifiers."""

from pathlib import Path

import numpy as np
import pytest
from helpers.portables import drawn
from helpers.tiny import tiny

import minialex
from minialex import backends, models
from minialex.cli import main
from minialex.data.preprocessing import Preprocessing
from minialex.errors import InputError
from minialex.exchange.formats import format as formats
from minialex.exchange.names import named
from minialex.exchange.portable import PortableModel, colour_statistics
from minialex.exchange.pytorch import state_keys
from minialex.exchange.read import read
from minialex.exchange.tensors import StoredTensor
from minialex.exchange.write import write
from minialex.models import layer_list
from minialex.models.recipe import Recipe

MAGIC = b"TINY"


def portable(classes=3):
    model = models.get("layers", classes, **layer_list.options_of(tiny(classes)))
    preprocessing = Preprocessing(
        Recipe(resize=16, crop=12), colour_statistics(16, (9.0, 8.0, 7.0))
    )
    params = model.network.init(backends.get("numpy"))
    return PortableModel("Tiny", model, params, preprocessing, ("a", "b", "c"))


@pytest.fixture
def tiny_format(monkeypatch):
    def matches(path, head):
        return head.startswith(MAGIC)

    made = formats.Format("Tiny", 0, matches, lambda request: portable())
    monkeypatch.setattr("minialex.exchange.read.all_formats", lambda: (made,))


@pytest.mark.usefixtures("tiny_format")
def test_a_foreign_file_loads_predicts_and_saves(tmp_path):
    path = tmp_path / "net.tiny"
    path.write_bytes(MAGIC)
    classifier = minialex.load(path, backend="numpy")
    image = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    found = classifier.probabilities(image)
    classifier.save(tmp_path / "ours.safetensors")
    again = minialex.load(tmp_path / "ours.safetensors", backend="numpy")
    np.testing.assert_array_equal(again.probabilities(image), found)
    assert again.model == classifier.model
    assert again.class_names == ("a", "b", "c")


@pytest.mark.usefixtures("tiny_format")
def test_a_file_of_unknown_format_is_named(tmp_path):
    (tmp_path / "other").write_bytes(b"something else")
    with pytest.raises(InputError, match="not a weight file of a supported program"):
        minialex.exchange.read.read(tmp_path / "other")
    with pytest.raises(InputError, match="damaged or not a weight file"):
        minialex.load(tmp_path / "other")


def test_weights_that_do_not_fit_the_network_are_refused():
    good = portable()
    bad = {**good.params, "fc8": {**good.params["fc8"], "bias": np.zeros(4, np.float32)}}
    with pytest.raises(InputError, match=r"fc8.bias is \(4,\) but must be \(3,\)"):
        PortableModel("Tiny", good.model, bad, good.preprocessing)
    without = {name: value for name, value in good.params.items() if name != "conv2"}
    with pytest.raises(InputError, match="has no conv2"):
        PortableModel("Tiny", good.model, without, good.preprocessing)


@pytest.mark.parametrize("name", models.names())
def test_every_network_becomes_a_layer_list(name):
    model = models.get(name)
    again = models.get("layers", model.classes, **layer_list.options_of(model.network))
    assert again.network == model.network


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"layers": [["a", "Conv3D", {}]]}, "did you mean 'Conv2D'"),
        ({"layers": [["a", "Conv2D", {"kernels": 3}]]}, "kernels"),
        ({"layers": [["a"]]}, "an invalid entry"),
        ({"input_shape": [12]}, "12"),
        ({"recipe": {"crops": 3}}, "unknown field of a recipe 'crops'"),
        ({"more": 1}, "does not take these options"),
    ],
)
def test_a_damaged_layer_list_gives_a_one_sentence_error(change, sentence):
    options = {**layer_list.options_of(tiny(3)), **change}
    with pytest.raises(InputError, match=sentence):
        models.get("layers", 3, **options)


@pytest.mark.usefixtures("tiny_format")
def test_unused_options_are_refused(tmp_path):
    """Ignoring them would give scores with the wrong preprocessing."""
    path = tmp_path / "net.tiny"
    path.write_bytes(MAGIC)
    for option, value in (("mean", tmp_path), ("definition", path), ("colours", "BGR")):
        with pytest.raises(InputError, match=f"a file of Tiny, which does not take --{option}"):
            read(path, **{option: value})


@pytest.mark.parametrize(
    ("lines", "names", "ids"),
    [
        ("a\nb\nc", ("a", "b", "c"), None),
        ("n00000001 a\nn00000002 a\nn00000003 c", ("a", "a", "c"), "n00000001"),
    ],
)
def test_class_names_from_a_list(tmp_path, lines, names, ids):
    (tmp_path / "names.txt").write_text(lines)
    found = named(portable(), tmp_path / "names.txt")
    assert found.class_names == names
    assert ids is None or found.class_ids[0] == ids


@pytest.mark.parametrize("lines", ["a\nb\na", "n00000001 a\nn00000002 b\nn00000001 c"])
def test_a_class_named_twice_is_refused(tmp_path, lines):
    (tmp_path / "names.txt").write_text(lines)
    remedy = "an id of its own" if " " in lines else "its WordNet id too, as in 'n02012849 crane'"
    message = f"names the class '(a|n00000001)' twice: give each line {remedy}"
    with pytest.raises(InputError, match=message):
        named(portable(), tmp_path / "names.txt")


def test_a_byte_order_mark_is_not_part_of_a_name(tmp_path):
    text = "n00000001 a\nn00000002 b\nn00000003 c"
    (tmp_path / "names.txt").write_text(text, encoding="utf-8-sig")
    found = named(portable(), tmp_path / "names.txt")
    assert (found.class_names, found.class_ids[0]) == (("a", "b", "c"), "n00000001")


@pytest.mark.parametrize("odd", ["n00000002", "b"])
def test_a_line_without_an_id_among_others_is_refused(odd, tmp_path):
    """Else no line would have one, and ILSVRC's folders would not fit the network."""
    (tmp_path / "names.txt").write_text(f"n00000001 a\n\n{odd}\nn00000003 c")
    with pytest.raises(InputError, match=f"but '{odd}' in line 3: give all lines both"):
        named(portable(), tmp_path / "names.txt")


OWN = """
from minialex.layers import Conv2D, Dense, ReLU
from minialex.network import Network

def build(classes):
    layers = (("conv1", Conv2D(2, kernel=5, stride=3)), ("relu1", ReLU()), ("fc2", Dense(classes)))
    return Network(layers, (14, 14, 3))
"""


def test_a_network_of_ones_own_is_imported_with_its_code(tmp_path, monkeypatch, capsys):
    """The command that is printed at the end names it again."""
    monkeypatch.chdir(tmp_path)
    for of in ("registered", "_sources"):
        monkeypatch.setattr(models.registry.PLUGINS, of, {})
    Path("net.py").write_text(OWN)
    model = models.get(models.use("net.py:build"), 3)
    write(drawn(model.network, model=model), "own.safetensors")
    models.registry.PLUGINS.registered.clear()
    assert main.main(["import", "own.safetensors", "--out", "in"]) == 2
    assert "net.py:build (import: --as)" in capsys.readouterr().err
    assert main.main(["import", "own.safetensors", "--as", "net.py:build", "--out", "in"]) == 0
    again = f"next: minialex predict PHOTO --model-file in --model {tmp_path}/net.py:build"
    assert again in capsys.readouterr().out


def test_a_layer_list_with_huge_sizes_is_refused():
    options = layer_list.options_of(tiny(3))
    with pytest.raises(InputError, match="list of layers cannot be built"):
        models.get("layers", 3, **{**options, "input_shape": [float("inf"), 12, 3]})


def test_modules_are_sorted_by_numbers_of_any_length():
    zeros = StoredTensor((4, 4), 4, lambda: np.zeros((4, 4)))
    bias = StoredTensor((4,), 4, lambda: np.zeros(4))
    names = ["features.2", "features.10", f"features.{'9' * 5000}", "features.²"]
    tensors = {f"{n}.{w}": t for n in names[::-1] for w, t in (("weight", zeros), ("bias", bias))}
    found = [entry.name for entry in state_keys.entries_of(Path("x"), tensors)]
    assert [name for name in found if name != "features.²"] == names[:3]
