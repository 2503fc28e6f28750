"""Baselines, pictures, two streams and VGG at the tiny scale, end to end in one report."""

import csv
import importlib
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.html import Balanced
from PIL import Image

from minialex.baselines import common
from minialex.cli import main
from minialex.data.dataset import Dataset
from minialex.errors import InputError
from minialex.experiments import Context, Difference, Options, runner

needs = "not installed: pip install 'minialex[baselines]'"
pytest.importorskip("sklearn", reason=f"scikit-learn is {needs}")
pytest.importorskip("skimage", reason=f"scikit-image is {needs}")
pytest.importorskip("cv2", reason=f"OpenCV is {needs}")

NAMES = ["baselines", "pictures", "two-stream", "vgg"]
pytestmark = pytest.mark.usefixtures("slim_networks")

TINY = Options(scale="tiny", device={"backend": "numpy", "threads": 1})


def module(name):
    return importlib.import_module(f"minialex.experiments.paper.{name}")


@pytest.fixture(scope="module")
def out(tmp_path_factory, slim_networks):
    folder, pictures = tmp_path_factory.mktemp("paper"), module("pictures")
    with pytest.MonkeyPatch.context() as patch:  # drawing photographs takes longest
        patch.setattr(pictures, "SHOWN", 2)
        patch.setattr(pictures, "NEAREST", 3)
        _, stopped = runner.reproduce(NAMES, TINY, folder, lambda text: None)
        assert stopped is None
        yield folder


def table(out, experiment, name):
    return list(csv.reader((out / experiment / f"{name}.csv").open()))


def test_the_report_is_complete_and_self_contained(out):
    page = (out / "report.html").read_text()
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert len(parser.ids) == len(set(parser.ids))
    assert re.findall(r'(?:src|href)="(?!#|data:)([^"]*)"', page) == []
    assert "Incomplete" not in page
    assert [title in page for title in ("Baselines", "network sees", "Two streams", "VGG")]


def test_nothing_is_computed_twice_and_a_report_needs_no_device(out):
    """As when the report of runs on a GPU is remade on a laptop."""
    said = []
    elsewhere = Options(scale="tiny", device={"backend": "of another machine"})
    path, _ = runner.reproduce(NAMES, elsewhere, out, said.append)
    assert [line for line in said if line.startswith("  ")] == []
    assert "Incomplete" not in path.read_text()


def test_baselines_are_compared_with_the_network_and_published_numbers(out):
    rows = {row[0]: row for row in table(out, "baselines", "baselines")[1:]}
    assert list(rows) == list(module("baselines").KNOWN)
    assert rows["Sparse coding"][7:9] == ["47.1", "28.2"]
    assert rows["SIFT + Fisher vectors"][11] == "26.2"
    assert float(rows["SIFT + Fisher vectors"][1]) < 90  # chance is 91.7, and drawings are easy


def test_experiments_with_missing_packages_are_left_out_with_a_note(out, tmp_path, monkeypatch):
    def lacking(*modules):
        raise InputError("this needs sklearn, which is not installed")

    monkeypatch.setattr(common, "require", lacking)
    shutil.copytree(out / "cells", tmp_path / "cells")
    said = []
    path, _ = runner.reproduce(["baselines"], TINY, tmp_path, said.append)
    assert "Incomplete" not in path.read_text()  # what is on disk needs no package
    for folder in [*(tmp_path / "cells").glob("sift-*"), *(tmp_path / "cells").glob("sparse-*")]:
        shutil.rmtree(folder)
    path, _ = runner.reproduce(["baselines"], TINY, tmp_path, said.append)
    assert sum("skipped: this needs sklearn" in line for line in said) == 1
    page = path.read_text()
    assert "Incomplete: 2 results" in page
    assert "Skipped: this needs sklearn, which is not installed." in page
    rows = {row[0]: row for row in table(tmp_path, "baselines", "baselines")[1:]}
    assert rows["Sparse coding"][1] == ""
    assert float(rows["CNN, ten crops"][1]) > 0


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((5.0, 5.2, 5.1), "the network wins"),
        ((-5.0, -5.2, -5.1), "opposite of the paper, SIFT wins"),
        ((5.0, -5.2, 0.1), "inconclusive"),
        ((5.0,), "no interval"),
    ],
)
def test_the_winner_follows_from_the_interval(values, words):
    assert words in module("baselines").winner("SIFT", Difference(values))


def test_pictures_are_drawn_and_kernels_measured(out):
    rows = table(out, "pictures", "colours")[1:]
    assert [row[0] for row in rows] == list(module("pictures").NETWORKS)
    for row in rows:
        greyer, other, apart = (float(row[i]) for i in (1, 4, 7))
        assert 0 < greyer <= other < 100
        assert 50 <= apart <= 100
    assert [path.name for path in (out / "cells").glob("the-whole-network-seed-0-??????????")]
    names = {path.stem for path in (out / "pictures").glob("*.png")}
    assert {"labels", "nearest-features", "nearest-pixels", "timeline"} <= names
    assert sum(name.startswith("kernels-") for name in names) == len(rows)
    for name in names:
        with Image.open(out / "pictures" / f"{name}.png") as image:
            assert np.asarray(image.convert("L")).std() > 5


def test_pictures_go_on_from_results_without_weights(out, tmp_path, monkeypatch):
    """As with --keep on another machine: nearest images are of a seed whose weights are there."""
    left_out = shutil.ignore_patterns("run", "nearest-images-*")
    shutil.copytree(out / "cells", tmp_path / "cells", ignore=left_out)
    monkeypatch.setattr(Context, "seeds", lambda *_, **__: [0])
    paper, said = module("pictures"), []
    section = paper.run(Context(TINY, tmp_path, log=said.append))
    assert not any("nearest images" in text for text in section.findings)
    assert not said  # nothing was computed
    monkeypatch.setattr(Context, "seeds", lambda *_, **__: [0, 1])
    section = paper.run(Context(TINY, tmp_path, log=said.append))
    assert any("nearest images" in text for text in section.findings)
    monkeypatch.setattr(Context, "seeds", lambda *_, **__: [1, 2])
    context = Context(TINY, tmp_path, report_only=True)
    assert any("nearest images" in text for text in paper.run(context).findings)
    assert context.not_run == len(paper.NETWORKS)  # those of the seed that was not run


class Flat(Dataset):
    """Images of one grey each, class 0 dark and class 1 bright."""

    name, layout, native_size = "flat", "greys", None
    class_ids = class_names = ("dark", "bright")

    def __init__(self, greys):
        self.greys = np.asarray(greys, np.uint8)
        self.labels = (self.greys > 128).astype(np.int64)

    def __len__(self):
        return len(self.greys)

    def image(self, index, size):
        return np.full((size, size, 3), self.greys[index], np.uint8)

    def describe(self, index):
        return str(index)


def test_nearest_images_are_found_and_their_classes_counted(monkeypatch):
    from helpers.untrained import untrained

    paper = module("pictures")
    monkeypatch.setattr(paper, "NEAREST", 2)
    monkeypatch.setattr(paper, "SHOWN", 5)
    found = paper.nearest(untrained(), Flat([10, 200, 30, 120, 210, 135]), Flat([12, 208, 140]))
    assert found["pixels"]["queries"] == [0, 1, 2]
    assert found["pixels"]["nearest"] == [[0, 2], [4, 1], [5, 3]]
    assert found["pixels"]["same"] == pytest.approx(100 * 5 / 6)


def test_streams_are_evaluated_on_both_sets(out):
    rows = table(out, "two-stream", "two-stream")[1:]
    assert [row[:2] for row in rows[:2]] == [
        ["only motion differs", "8"],
        ["appearance and motion", "12"],
    ]
    assert [rows[2][i] for i in (2, 5, 8)] == ["27.0", "16.3", "13.1"]


def test_sentences_on_streams_match_the_numbers():
    paper = module("two_stream")

    def findings(*errors):
        outcomes = {
            seed: paper.Outcome(dict(zip(paper.STREAMS, of_seed, strict=True)), 12, "line")
            for seed, of_seed in enumerate(errors)
        }
        return paper.report([], {paper.MIXED: outcomes}).findings

    said = findings(*((80.0 + seed, 60.0 + seed / 2, 40.0) for seed in range(3)))
    assert [sentence.endswith("agrees with the paper.") for sentence in said] == [True, True]
    said = findings(*((40.0, 60.0 + seed / 2, 50.0 + seed) for seed in range(3)))
    assert "opposite of the paper" in said[0]
    assert "agrees with the paper" in said[1]


def test_vgg_has_the_published_parameters(out):
    rows = table(out, "vgg", "sizes")[1:]
    assert [row[1] for row in rows] == ["138357544", "143667240"]
    assert [row[1] for row in rows] == [row[2] for row in rows]
    assert [row[0] for row in table(out, "vgg", "starts")[1:]] == list(module("vgg").STARTS)


def test_the_deep_network_is_cached_by_its_initialisation(tmp_path):
    """Another shallow network gives another cache entry, and the run starts from its weights."""
    context = Context(TINY, tmp_path, log=lambda text: None)
    data = context.data(24, 12)
    some = {"epochs": 1, "batch_size": 12, "model_options": {"width": 2, "hidden": 8}}
    folders = []
    for rate in (0.01, 0.02):
        shallow = context.train("A", data, seed=0, model="vgg-11-64", lr=rate, **some)
        deep = context.train(
            "D", data, seed=0, shallow=shallow, model="vgg-16-64", lr=1e-30, **some
        )
        folders.append(deep.folder)
        [mine, theirs] = (run.classifier().params["conv1_1"]["weight"] for run in (deep, shallow))
        np.testing.assert_array_equal(mine, theirs)
    assert folders[0] != folders[1]


def test_a_diverged_initialisation_has_a_row(tmp_path, monkeypatch):
    paper, wild = module("vgg"), "D, wild"
    starts = {wild: paper.Start(wild, "D", {"init": 1.0}), paper.HE: paper.Start("he", "D", {})}
    monkeypatch.setattr(paper, "STARTS", starts)
    section = paper.run(Context(TINY, tmp_path, log=lambda text: None))
    assert section.findings[0] == "D, wild: the run diverged."
    assert [row[3] for row in section.tables[1].rows] == ["0 of 1", "0 of 1"]
    assert section.tables[1].rows[0][2] is None


def test_sentences_on_vgg_match_the_losses():
    sentence = module("vgg").finding
    assert "all 3 runs diverged" in sentence("D", 3, 0, 0)
    assert sentence("D", 3, 3, 0) == "D: stayed at the loss of random guessing in 3 of 3 runs."
    assert "learned in 1 of 3 runs; 1 diverged" in sentence("D", 3, 2, 1)


def test_methods_learn_from_growing_numbers_of_images(tmp_path, monkeypatch):
    paper, asked = module("training_images"), []

    def baseline(context, name, data, seed, options):
        asked.append((name, len(data.splits.train), options["size"]))
        return 100 - len(data.splits.train), 50.0, "in a line"

    monkeypatch.setattr(paper, "baseline", baseline)
    path, _ = runner.reproduce(["training-images"], TINY, tmp_path, lambda text: None)
    [head, *rows] = table(path.parent, "training-images", "training-images")
    assert [row[0] for row in rows] == ["24", "48"]
    assert asked[:4] == [  # the report asks again
        (n, i, s) for i in (24, 48) for n, s in ((paper.FISHER, 64), (paper.SPARSE, 32))
    ]
    column = head.index("Sparse coding, top-1 error, % mean")
    assert [float(row[column]) for row in rows] == [76, 52]
    assert (path.parent / "training-images" / "training-images.png").exists()


@pytest.mark.parametrize(
    ("signs", "words"),
    [
        ({500: -1, 1000: 0, 2500: 1, 9469: 1}, "wins from 2,500 images on"),
        ({500: 1, 1000: 0, 2500: 1}, "wins from 2,500 images on"),
        ({500: 1, 1000: 1}, "wins with all of them"),
        ({500: 1, 1000: 0}, "does not win with any"),
        ({500: None, 1000: None}, "no interval"),
    ],
)
def test_where_the_network_overtakes(signs, words):
    assert words in module("training_images")._verdict(signs)


def test_all_experiments_are_listed(capsys):
    assert main.main(["reproduce", "--list"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert [name for name in names if name in NAMES] == NAMES
    modules = Path(importlib.import_module("minialex.experiments.paper").__file__).parent
    found = {path.stem.replace("_", "-") for path in modules.glob("[!_]*.py")}
    assert sorted(names) == sorted(found)
