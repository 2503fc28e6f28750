"""The page about one photograph: complete in itself, and what it says is what the network says."""

import io
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.html import Balanced
from helpers.looking import model_of
from helpers.untrained import untrained
from PIL import Image

from minialex import models
from minialex.data.preprocessing import Preprocessing
from minialex.data.sources.open import open_data
from minialex.errors import InputError
from minialex.inference.classifier import Classifier
from minialex.layers import Conv2D, Dense, MaxPool, ReLU, Sigmoid, Tanh
from minialex.saliency import occlusion
from minialex.show import about_map, explain, parts
from minialex.show.figure import figure, paper_shapes
from minialex.show.look import Look, Photo, blocks, photo


@pytest.fixture(scope="module")
def classifier(slim_networks):
    return untrained(seed=2)


@pytest.fixture(scope="module")
def content():
    """A JPEG of 150 x 100 pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (10, 15, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((150, 100)).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture(scope="module")
def look(classifier, content):
    return Look(classifier, photo(content, "a <b>.jpg", 72))


@pytest.fixture(scope="module")
def page(look):
    return explain.page(look.classifier, look.photo)


def test_the_page_is_whole_and_alone(page):
    checker = Balanced()
    checker.feed(page)
    assert not checker.open
    assert len(checker.ids) == len(set(checker.ids))
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert "http" not in page
    assert "url(" not in page
    assert "a &lt;b&gt;.jpg" in page
    assert "<b>.jpg" not in page
    for target in re.findall(r'href="#([^"]*)"', page):
        assert target in checker.ids


def test_answers_are_the_classifiers(look, page):
    [best] = look.classifier.predict([look.image])
    [ten] = look.classifier.predict([look.image], crops=10)
    shown = re.findall(r'<span class="class">(.*?)</span>.*?<span class="share">(.*?)</span>', page)
    assert shown == [(one.name, f"{one.probability:.1%}") for one in (*best, *ten)]


def test_every_layer_is_there_with_its_maps(look, page):
    for name, layer in look.classifier.model.network.layers:
        assert f"{name}: {type(layer).__name__}" in page
        assert f'data-layer="{name}"' in page
    firsts = re.findall(r'data-layer="pool1" data-first="(\d+)" data-count="(\d+)"', page)
    assert firsts == [("0", "4"), ("4", "4")]  # two towers of 4
    assert page.count('data-layer="fc8"') == 1
    assert "are divided by" in page


def test_the_whole_photograph_is_shown_with_its_crops(look, classifier):
    assert look.photo.whole.shape == (72, 108, 3)
    drawn = parts.crops(look).text
    frames = re.findall(r'<rect class="([\w-]+)" x="([\d.]+)" y="([\d.]+)" width="(\d+)"', drawn)
    assert frames == [
        ("top-left", "18.5", "0.5", "63"),
        ("top-right", "26.5", "0.5", "63"),
        ("bottom-left", "18.5", "8.5", "63"),
        ("bottom-right", "26.5", "8.5", "63"),
        ("centre", "22.5", "4.5", "63"),
    ]
    assert "M18 0v72h72v-72Z" in drawn  # around what is used, the photograph is darker
    swatches = re.findall(r'class="swatch ([\w-]+)"', drawn)
    assert sorted(swatches) == sorted(2 * [kind for kind, *_ in frames])
    middle = look.photo.whole[:, 18:90].astype(int)
    assert np.abs(middle - look.image).mean() < 3  # the square is its centre
    plain = parts.crops(Look(classifier, Photo("x", look.image))).text
    assert "unused" not in plain
    assert drawn.count("<figcaption>") == 11


def test_a_network_trained_without_mirroring_shows_five_crops(look):
    given = look.classifier.preprocessing
    preprocessing = Preprocessing(replace(given.recipe, mirror=False), given.statistics)
    five = Look(replace(look.classifier, preprocessing=preprocessing), look.photo)
    drawn = parts.crops(five).text
    assert drawn.count("<figcaption>") == 6
    assert "once and not mirrored" in drawn
    assert drawn.count("mirrored") == 1
    assert "five crops</figcaption>" in parts.answers(five).text


@pytest.mark.parametrize("margin", [0, 1, 2])
def test_crops_keep_their_names_however_little_they_differ(margin):
    """With one pixel to choose, the centre is the crop at the top left."""
    given = untrained(seed=2)
    recipe = replace(given.preprocessing.recipe, resize=given.preprocessing.recipe.crop + margin)
    size = recipe.resize
    mean = np.zeros((size, size, 3), np.float32)
    statistics = replace(given.preprocessing.statistics, mean=mean)
    preprocessing = Preprocessing(recipe, statistics)
    classifier = replace(given, preprocessing=preprocessing)
    look = Look(classifier, Photo("x", np.zeros((size, size, 3), np.uint8)))
    drawn = parts.crops(look).text
    frames = re.findall(r'<rect class="([\w-]+)" x="(\d+).5" y="(\d+).5"', drawn)
    high, half = str(margin), str(margin // 2)
    assert {name: (x, y) for name, x, y in frames} == {
        "top-left": ("0", "0"),
        "top-right": (high, "0"),
        "centre": (half, half),
        "bottom-left": ("0", high),
        "bottom-right": (high, high),
    }
    assert drawn.count("swatch bottom-right") == 2


def test_a_panorama_is_shown_by_its_square(content):
    with Image.open(io.BytesIO(content)) as image:
        file = io.BytesIO()
        image.resize((500, 100)).save(file, "PNG")
    assert photo(file.getvalue(), "wide.png", 72).whole is None
    with pytest.raises(InputError, match=r"x\.jpg is not an image"):
        photo(b"no image", "x.jpg", 72)


def test_where_it_looks_names_what_covering_costs(look, page):
    found = occlusion(look.classifier.trained, look.image, look.label)
    assert f"costs {found.drops.max():.1%}" in page
    for said in ("Grad-CAM at relu5", "deconvolution of relu5", "guided gradient"):
        assert said in page


def test_figure_2_has_a_box_for_each_layer_and_tower(look):
    drawn = figure(look).text
    for name in ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7"):
        assert drawn.count(f'href="#layer-{name}"') == 2
    assert drawn.count('href="#layer-fc8"') == 1
    # towers read each other before convolution 3 and in the dense layers
    assert drawn.count('class="crossing"') == 2 + 2 + 2 + 2
    assert ">32 x 32 x 8<" in drawn
    assert ">55 x 55 x 96<" in drawn


def test_the_papers_numbers_stand_beside_the_networks(look, classifier):
    found = paper_shapes(look)
    assert found["conv1"] == "55 x 55 x 96"
    assert found["fc8"] == "1,000"
    model = models.get("alexnet")
    rows = dict(zip((n for n, _ in model.network.layers), model.network.shapes()[1:], strict=True))
    from minialex.show.figure import shape_text

    outputs = {name: shape_text(rows[name]) for name in found}
    assert {**outputs, "conv2": "27 x 27 x 256"} == found
    small = untrained(name="cifar10")
    assert paper_shapes(Look(small, Photo("x", np.zeros((32, 32, 3), np.uint8)))) == {}


def looking_at(layers):
    """Noise in an untrained network of these layers, whose crop is 13 x 13."""
    trained = model_of(layers, dtype="float32")
    model = SimpleNamespace(network=trained.network, name="own")
    image = np.random.default_rng(1).integers(0, 256, (15, 15, 3), np.uint8)
    return Look(SimpleNamespace(trained=trained, model=model), Photo("noise", image))


@pytest.mark.parametrize("activation", [ReLU(), Tanh(), Sigmoid()], ids=lambda a: type(a).__name__)
def test_the_numbers_of_a_layer_are_those_after_its_activation(activation):
    one = looking_at((("conv", Conv2D(4, 3)), ("after", activation), ("fc", Dense(3))))
    y = one.outputs["after"]
    row = re.search(r">conv</th>(.*?)</tr>", parts.numbers(one).text)[1]
    assert re.findall(r"<td>(.*?)</td>", row)[-2:] == [f"{np.mean(y > 0):.0%}", f"{y.max():.3g}"]


def test_what_a_pooled_pixel_reads_is_not_explained_at_its_own_place():
    """The last window of the ceil rule has one pixel, which lies elsewhere in the map before."""
    pool = MaxPool(2, 2, rounding="ceil")
    one = looking_at(
        (("conv", Conv2D(4, 3, pad=1)), ("relu", ReLU()), ("pool", pool), ("fc", Dense(3)))
    )
    assert one.outputs["pool"].shape == (7, 7, 4)
    said = about_map.unit(one, "pool", 2, (6, 6)).text
    assert re.findall("The arithmetic of (.*?)<", said) == ["pool, channel 2, row 6, column 6"]
    assert f"The input is {one.outputs['relu'][12, 12, 2]:.6g}." in said
    said = about_map.unit(one, "relu", 2, (6, 6)).text
    assert re.findall("The arithmetic of (.*?),", said) == ["conv", "relu"]


@pytest.mark.parametrize("name", ["cifar10", "vgg-11-64", "alexnet-64-six"])
def test_other_networks_have_their_page(slim_networks, name):
    small = untrained(name=name)
    drawn = open_data("shapes:48").val.image(0, small.preprocessing.recipe.resize)
    look = Look(small, Photo("drawing", drawn))
    text = parts.layers(look).text + parts.network(look).text
    for block in blocks(small.model.network.layers):
        assert f'id="layer-{block.name}"' in text


def test_stacks_are_no_photographs(slim_networks):
    model = models.get("stream-48", 12, channels=20)
    stacks = Classifier(model, {}, None, (), (), None, {})
    with pytest.raises(InputError, match="reads stacks of 20 channels"):
        explain.require_images(stacks)


def test_the_command_writes_it(tmp_path, monkeypatch, classifier, content, capsys):
    from minialex.cli import main

    monkeypatch.chdir(tmp_path)
    classifier.save("net.safetensors")
    (tmp_path / "photo.jpg").write_bytes(content)
    line = ["explain", "photo.jpg", "--model-file", "net.safetensors", "--backend", "numpy"]
    assert main.main([*line, "--out", "page.html"]) == 0
    assert "page.html: open it in a browser" in capsys.readouterr().out
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<title>photo.jpg: " in text
    assert main.main([*line, "--out", "page.pdf"]) == 2
    assert "must end in .html" in capsys.readouterr().err
    assert main.main(["explain", "shapes:2", *line[2:]]) == 2
    assert "has 2 images" in capsys.readouterr().err
    monkeypatch.setattr(explain, "explain", None)  # the file is tried before the work
    assert main.main([*line, "--out", "none/page.html"]) == 2
    assert "cannot write none/page.html" in capsys.readouterr().err
