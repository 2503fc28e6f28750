"""Figures have a white background and all their text, without overlaps."""

import sys

import numpy as np
import pytest
from helpers.untrained import untrained
from PIL import Image

from minialex import plots
from minialex.data.sources.open import open_data
from minialex.errors import InputError
from minialex.exchange.read import read
from minialex.exchange.write import write
from minialex.experiments.published import CHALLENGE
from minialex.inference.classifier import to_portable
from minialex.inference.ensemble import Ensemble
from minialex.plots.figure import shortened

pyplot = pytest.importorskip("matplotlib.pyplot", reason="Matplotlib is not installed")
Text = pyplot.Text

ROW = {"train_loss": 2, "val_loss": 2.2, "val_top1_error": 0.5, "val_top5_error": 0.2}


@pytest.fixture(scope="module")
def classifier():
    return untrained()


def history(*errors):
    return [{**ROW, "epoch": i, "val_top1_error": e} for i, e in enumerate(errors, 1)]


@pytest.fixture
def drawn(monkeypatch):
    """Call a drawing function; returns its figure with its text, checked for overlaps."""

    def draw(function, *arguments, **options):
        kept = []
        close = pyplot.close
        monkeypatch.setattr(pyplot, "close", kept.append)
        path = function(*arguments, **options)
        monkeypatch.undo()
        [figure] = kept
        try:
            return words_apart(figure)
        finally:
            close(figure)
            assert on_white(path)

    return draw


def on_white(path) -> bool:
    """Whether a PNG is opaque and white at its corners, and not empty."""
    if path.suffix != ".png":
        return path.stat().st_size > 1000
    with Image.open(path) as image:
        image = image.convert("RGBA")
        cards = [Image.new("RGBA", image.size, colour) for colour in ("black", "white")]
        black, white = (np.asarray(Image.alpha_composite(card, image)) for card in cards)
    corners = white[[0, 0, -1, -1], [0, -1, 0, -1], :3]
    return np.array_equal(black, white) and (corners == 255).all() and white.std() > 5


def words_apart(figure) -> list[str]:
    """All text in a figure; fails if two items overlap or one is cut off."""
    shown, draw = [], Text.draw

    def noted(self, renderer, *arguments, **options):
        shown.append(self)
        return draw(self, renderer, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", noted)
        figure.canvas.draw()
    boxes = []
    written = (text for text in shown if text.get_visible() and text.get_text().strip())
    for text in {id(text): text for text in written}.values():
        box = text.get_window_extent()
        boxes.append((text.get_text(), box))
        assert box.x0 >= -1, text
        assert box.x1 <= figure.bbox.width + 1, text
    for i, (a, one) in enumerate(boxes):
        for b, two in boxes[:i]:
            wide = min(one.x1, two.x1) - max(one.x0, two.x0)
            high = min(one.y1, two.y1) - max(one.y0, two.y0)
            assert min(wide, high) < 1, f"{a!r} over {b!r}"
    return [text for text, _ in boxes]


def test_kernels_are_drawn_by_tower(classifier, drawn, tmp_path):
    words = drawn(plots.kernels, classifier, tmp_path / "k.png")
    assert [w.partition(":")[0] for w in words] == ["tower 1", "tower 2"]
    words = drawn(plots.kernels, untrained(towers=1), tmp_path / "one.png")
    assert [w.partition(":")[0] for w in words] == ["all kernels"]
    few = untrained(name="vgg-16-64", width=2)  # conv1_1: the text is wider than the kernels
    assert len(drawn(plots.kernels, few, tmp_path / "few.png")) == 1


def test_eight_images_with_the_right_label_marked(classifier, drawn, tmp_path):
    val = open_data("shapes:48").val
    words = drawn(plots.sample_predictions, Ensemble((classifier,)), val, tmp_path / "p.png")
    assert len([w for w in words if w in val.class_names]) >= 8
    squares = [val.image(0, 72)]
    best = classifier.predict(squares)[0][2].name
    words = drawn(plots.predictions, classifier, squares, tmp_path / "q.png", [best])
    assert f"{best} (correct)" in words
    assert len(words) == 6


def test_long_labels_are_shortened():
    assert shortened("tench, Tinca tinca, a fish", 24) == "tench"
    assert shortened("x" * 40, 10) == "x" * 9 + "…"
    assert shortened("cat, cat", 24) == "cat, cat"


def test_neighbours_are_drawn_beside_their_query(drawn, tmp_path):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (40, 40, 3), np.uint8) for _ in range(8)]
    labels = [["a query", *["an image with a long name"] * 3], ["b", "c", "d", "e"]]
    rows = [images[2:5], images[5:8]]
    words = drawn(plots.neighbors, images[:2], rows, tmp_path / "n.png", "alike", labels)
    assert {"query", "nearest", "alike", "an image with a…"} <= set(words)
    with pytest.raises(InputError, match="no neighbours"):
        plots.neighbors([], [], tmp_path / "n.png")


def test_published_errors_match_the_paper(drawn, tmp_path):
    words = drawn(plots.timeline, tmp_path / "t.png", CHALLENGE)
    assert {"28.2%", "25.7%", "26.2%", "15.3%", "7.3%"} <= set(words)
    assert all(result.source for result in CHALLENGE)


def test_several_runs_are_drawn_with_a_band(drawn, tmp_path):
    runs = {
        "two towers": [history(0.8, 0.5, 0.4), history(0.6, 0.5), history(0.7, 0.5)],
        "one tower": [history(0.9)],
        **{f"variant {i}": [history(0.5 + i / 20, 0.5)] for i in range(8)},
    }
    words = drawn(plots.learning_curves, runs, tmp_path / "c.png", title="towers")
    assert {"two towers (3 runs)", "one tower", "epoch", "towers"} <= set(words)
    with pytest.raises(InputError, match="did you mean 'val_loss'"):
        plots.learning_curves(runs, tmp_path / "c.png", "val_los")
    for empty in ({}, {"a": []}, {"a": [[]]}):
        with pytest.raises(InputError, match="at least one history"):
            plots.learning_curves(empty, tmp_path / "c.png")


def test_the_band_spans_minimum_to_maximum(monkeypatch, tmp_path):
    kept = []
    close = pyplot.close
    monkeypatch.setattr(pyplot, "close", kept.append)
    plots.learning_curves({"a": [history(0.8, 0.5), history(0.6, 0.3)]}, tmp_path / "c.png")
    [axes] = kept[0].axes
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [70, 40])
    assert axes.collections[0].get_datalim(axes.transData).bounds == pytest.approx((1, 30, 1, 50))
    close(kept[0])


@pytest.mark.parametrize("missing", [None, ""])
def test_a_run_without_validation_has_its_training_loss_drawn(drawn, tmp_path, missing):
    alone = dict.fromkeys(ROW, missing)
    rows = [{**alone, "epoch": i, "train_loss": 1.5 - i} for i in range(1, 4)]
    words = drawn(plots.curves, rows, tmp_path / "c.png")
    assert {"training", "\N{MINUS SIGN}1.50"} <= set(words)  # with the negative losses
    assert not {"validation", "top-1"} & set(words)
    both = [rows, history(0.8, 0.5)]
    assert "a (2 runs)" in drawn(plots.learning_curves, {"a": both}, tmp_path / "c.png")
    with pytest.raises(InputError, match="a has no top-1 validation error: it was trained with"):
        plots.learning_curves({"a": [rows]}, tmp_path / "d.png")
    assert not (tmp_path / "d.png").exists()


@pytest.mark.parametrize("kind", ["svg", "pdf", "png"])
def test_equal_figures_give_equal_files(tmp_path, kind):
    one, two = (plots.timeline(tmp_path / f"{i}.{kind}", CHALLENGE) for i in range(2))
    assert one.read_bytes() == two.read_bytes()
    if kind == "svg":
        assert "<svg" in one.read_text()


def test_the_home_folder_is_that_of_all_paths(classifier, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    image = np.random.default_rng(0).integers(0, 256, (80, 80, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "photo.png")
    drawn = [
        plots.curves(history(0.5), "~/curves.png"),
        plots.kernels(classifier, "~/kernels.png"),
        plots.predictions(classifier, ["~/photo.png"], "~/predictions.png"),
        plots.neighbors(["~/photo.png"], [["~/photo.png"]], "~/neighbors.png"),
    ]
    assert all(path.parent == tmp_path and path.exists() for path in drawn)
    write(to_portable(classifier), "~/net.pth")
    assert read("~/net.pth").names == classifier.class_names
    assert not (tmp_path / "~").exists()


def test_other_file_types_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"unknown file type '\.txt'"):
        plots.curves(history(0.5), tmp_path / "c.txt")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def bare(monkeypatch):
    """Acts as if Matplotlib were not installed."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)


@pytest.mark.usefixtures("bare")
def test_kernels_need_only_pillow(classifier, tmp_path):
    path = plots.kernels(classifier, tmp_path / "k.png")
    with Image.open(path) as image:
        assert image.size == (16 * 49 + 8, 2 * (18 + 2 * 49 + 4))  # two towers, two rows each
        rows = np.asarray(image).min(axis=(1, 2))
        kernel = np.asarray(image)[18 + 2 : 18 + 47, 4 + 2 : 4 + 47]
    assert on_white(path)
    assert rows[:18].min() < 100  # letters above the first
    weight = classifier.params["conv1"]["weight"][..., 0]
    wanted = 127.5 + 127.5 * weight / np.abs(weight).max()
    np.testing.assert_allclose(kernel[4::9, 4::9], wanted, atol=0.51)
    assert plots.kernels(classifier, tmp_path / "k.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(InputError, match=r"SVG needs Matplotlib .*\.png does not"):
        plots.kernels(classifier, tmp_path / "k.svg")


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("labels", [None, [["a query", "b", "c"], ["d", "e", "f"]]])
def test_neighbours_need_only_pillow(tmp_path, labels):
    images = [np.full((40, 40, 3), 30 * i, np.uint8) for i in range(6)]
    rows = [images[2:4], images[4:6]]
    path = plots.neighbors(images[:2], rows, tmp_path / "n.png", "alike", labels)
    with Image.open(path) as image:
        assert image.size == (3 * 132 + 4, 36 + 2 * (132 + 18 * bool(labels)))
        pixels = np.asarray(image)
    for i, shades in enumerate(([0, 60, 90], [30, 120, 150])):
        line = pixels[36 + 64 + i * (132 + 18 * bool(labels)), :, 0]
        for start, wanted in ((3, 255), (4, shades), (4 + 127, shades), (4 + 128, 255)):
            np.testing.assert_array_equal(line[start:-1:132], wanted)
    assert on_white(path)
