"""A format plugs itself in, and what it reads is a classifier as any other."""

import numpy as np
import pytest
from helpers.tiny import tiny

import minialex
from minialex import backends, models
from minialex.data.preprocessing import Preprocessing
from minialex.errors import InputError
from minialex.exchange.formats import format as formats
from minialex.exchange.portable import PortableModel, colour_statistics
from minialex.exchange.read import read
from minialex.models import plan
from minialex.models.recipe import Recipe

MAGIC = b"TINY"


def portable(classes=3):
    model = models.get("layers", classes, **plan.options_of(tiny(classes)))
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
def test_a_foreign_file_loads_predicts_and_is_saved_as_ours(tmp_path):
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
def test_what_no_format_knows_is_named(tmp_path):
    (tmp_path / "other").write_bytes(b"something else")
    with pytest.raises(InputError, match="not a weight file of a program known here"):
        minialex.exchange.read.read(tmp_path / "other")
    with pytest.raises(InputError, match="damaged or not a weight file"):
        minialex.load(tmp_path / "other")


def test_weights_that_do_not_fit_the_network_are_refused():
    good = portable()
    bad = {**good.params, "fc8": {**good.params["fc8"], "bias": np.zeros(4, np.float32)}}
    with pytest.raises(InputError, match=r"fc8.bias is \(4,\) and must be \(3,\)"):
        PortableModel("Tiny", good.model, bad, good.preprocessing)
    without = {name: value for name, value in good.params.items() if name != "conv2"}
    with pytest.raises(InputError, match="has no conv2"):
        PortableModel("Tiny", good.model, without, good.preprocessing)


@pytest.mark.parametrize("name", models.names())
def test_every_network_is_a_plan(name):
    model = models.get(name)
    again = models.get("layers", model.classes, **plan.options_of(model.network))
    assert again.network == model.network


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"layers": [["a", "Conv3D", {}]]}, "did you mean 'Conv2D'"),
        ({"layers": [["a", "Conv2D", {"kernels": 3}]]}, "kernels"),
        ({"layers": [["a"]]}, "an entry that is none"),
        ({"input_shape": [12]}, "12"),
        ({"recipe": {"crops": 3}}, "unknown field of a recipe 'crops'"),
        ({"more": 1}, "does not take these options"),
    ],
)
def test_a_damaged_plan_is_a_sentence(change, sentence):
    options = {**plan.options_of(tiny(3)), **change}
    with pytest.raises(InputError, match=sentence):
        models.get("layers", 3, **options)


@pytest.mark.usefixtures("tiny_format")
def test_what_a_format_does_not_look_at_is_refused(tmp_path):
    """Rather than ignored: the scores would be another preprocessing's."""
    path = tmp_path / "net.tiny"
    path.write_bytes(MAGIC)
    for option, value in (("mean", tmp_path), ("definition", path), ("colours", "BGR")):
        with pytest.raises(InputError, match=f"a file of Tiny, which is read without --{option}"):
            read(path, **{option: value})
