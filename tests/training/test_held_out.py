"""Runs are validated on held-out images, even if the data set was moved or changed."""

import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
from helpers.tiny import photographs, register_tiny
from helpers.untrained import untrained
from PIL import Image

import minialex
from minialex.data import image_record
from minialex.data.dataset import Splits, subset
from minialex.data.image_record import fingerprint, record, same_data
from minialex.data.packed.format import MANIFEST, checksum
from minialex.data.sources.open import open_data
from minialex.data.split import split_by_position
from minialex.errors import InputError
from minialex.inference import judged_images
from minialex.inference.ensemble import Ensemble
from minialex.inference.judged_images import UNLISTED, images_to_judge, lineage, shortened
from minialex.training import held_out

TINY = {"model": "tiny", "batch_size": 16, "backend": "numpy", "progress": False}


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    register_tiny(monkeypatch)


def names(dataset):
    return {dataset.image_name(i) for i in range(len(dataset))}


@pytest.fixture
def photos(tmp_path):
    return photographs(tmp_path / "photos")


@pytest.fixture
def about(photos):
    """The data record in the weights of a run on `photos`."""
    splits = open_data(photos)
    data = {"data": str(photos), "seed": 0, "val_fraction": 0.1}
    return {**data, "images": record(splits).as_json()}


@pytest.fixture
def trained_on(photos):
    return names(open_data(photos).train)


def judged(about, data=None):
    found = images_to_judge(about, data)
    return names(found.dataset), found.note


def test_the_recorded_list_is_used_wherever_the_folder_is(about, photos, trained_on, tmp_path):
    held_out, note = judged(about)
    assert not held_out & trained_on
    assert note == ""
    shutil.copytree(photos, tmp_path / "copy")
    assert judged(about, tmp_path / "copy")[0] == held_out
    shutil.rmtree(photos)
    assert judged(about, str(tmp_path / "copy"))[0] == held_out
    with pytest.raises(FileNotFoundError, match="if the images were moved"):
        judged(about)


@pytest.mark.parametrize("most_content", [1 << 30, 20_000, 0])
def test_changes_in_the_folder_add_no_training_image(photos, tmp_path, monkeypatch, most_content):
    monkeypatch.setattr(image_record, "MOST_CONTENT", max(1, most_content))
    splits = open_data(photos)
    about = {"data": str(photos), "images": record(splits).as_json()}
    learnt = names(splits.train)
    one = sorted(learnt)[0]
    photographs(photos / "more", each=1, seed=7)
    (photos / "more" / "cat" / "00.png").rename(photos / "cat" / "(new).png")
    shutil.rmtree(photos / "more")
    (photos / one).unlink()
    held_out, note = judged(about)
    assert held_out == names(splits.val)
    assert "1 images were added after the training" in note
    (photos / sorted(held_out)[0]).unlink()
    assert "1 of the" in judged(about)[1]
    shutil.copytree(photos, tmp_path / "copy")
    assert not judged(about, tmp_path / "copy")[0] & learnt


def test_a_copied_image_is_judged_once(about, photos):
    held_out = sorted(judged(about)[0])
    shutil.copy(photos / held_out[0], photos / "cat" / "copy.png")
    assert judged(about) == (set(held_out), "1 copies of held-out images are left out")
    (photos / held_out[0]).unlink()
    (photos / held_out[1]).unlink()
    found, note = judged(about)
    assert found == {"cat/copy.png", *held_out[2:]}  # the only one left of its content
    assert note == f"1 of the {len(held_out)} held-out images are gone"


def test_a_training_image_is_recognised_by_content(about, photos, trained_on, tmp_path):
    other = photographs(tmp_path / "other", seed=8)
    shutil.copy(photos / sorted(trained_on)[0], other / "cat" / "renamed.png")
    found, note = judged(about, other)
    assert len(found) == 40  # the others have names of training images, but are different images
    assert "cat/renamed.png" not in found
    assert "1 of 41 images are left out: the network was trained on them" in note
    alone = tmp_path / "alone"
    for name in sorted(trained_on)[::9]:
        (alone / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photos / name, alone / name)
    with pytest.raises(InputError, match="was trained on all images"):
        judged(about, alone)


def test_weights_of_older_versions_use_their_split(photos, tmp_path):
    about = {"data": str(photos), "seed": 3, "val_fraction": 0.2}
    whole = open_data(photos).whole
    assert judged(about)[0] == names(split_by_position(whole, 0.2, 3).val)
    shutil.copytree(photos, tmp_path / "copy")
    found, note = judged(about, tmp_path / "copy")
    assert len(found) == 40
    assert "do not list their training images" in note


def test_a_sample_of_training_images_identifies_the_set(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(image_record, "SAMPLE", 8)
    splits = open_data(photos)
    about = {"data": str(photos), "images": record(splits).as_json()}
    assert len(about["images"]["trained_on"]) == 8
    shutil.copytree(photos, tmp_path / "copy")
    assert judged(about, tmp_path / "copy")[0] == names(splits.val) == judged(about)[0]


def test_separate_parts_may_share_names(tmp_path):
    for part, seed in (("train", 1), ("val", 2)):
        photographs(tmp_path / "data" / part, each=4, seed=seed)
    splits = open_data(tmp_path / "data")
    assert names(splits.train) == names(splits.val)
    about = {"data": str(tmp_path / "data"), "images": record(splits).as_json()}
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    for data in (None, tmp_path / "copy", tmp_path / "data" / "val"):
        assert len(images_to_judge(about, data).dataset) == 8
    with pytest.raises(InputError, match="was trained on all images"):
        judged(about, tmp_path / "data" / "train")


def pack(source, folder, **options):
    options = {"size": 36, "seed": 5, "val_fraction": 0.5, "progress": False, **options}
    minialex.prepare(source, folder, **options)
    return folder


def without_origins(folder):
    """The packed set as made by an older version."""
    values = json.loads((folder / MANIFEST).read_text())
    for part in values["parts"].values():
        (folder / part.pop("origins")["file"]).unlink()
    (folder / MANIFEST).write_text(json.dumps({**values, "checksum": checksum(values)}))


@pytest.mark.parametrize("old", [False, True])
def test_packed_images_are_recognised(about, photos, trained_on, tmp_path, old):
    packed = pack(photos, tmp_path / "packed")
    if old:
        without_origins(packed)
    learnt = names(open_data(packed).val) & trained_on
    assert learnt
    found, note = judged(about, packed)
    assert not found & trained_on
    assert f"{len(learnt)} of 20 images are left out" in note
    assert ("20 images are recognised by their names alone" in note) == old


def test_other_images_of_the_same_names_are_not_confused(about, photos, tmp_path):
    packed = pack(photographs(tmp_path / "other", seed=8), tmp_path / "packed")
    assert judged(about, packed) == (names(open_data(packed).val), "")


@pytest.mark.parametrize("old", [False, True])
def test_a_run_on_a_packed_set_recognises_the_photographs(photos, tmp_path, old):
    packed = pack(photos, tmp_path / "packed")
    if old:
        without_origins(packed)
    splits = open_data(packed)
    about = {"data": str(packed), "images": record(splits).as_json()}
    found, note = judged(about, photos)
    assert not found & names(splits.train)
    assert ("recognised by their names alone" in note) == old
    other = photographs(tmp_path / "other", seed=8)
    if not old:
        assert judged(about, other) == (names(open_data(other).whole), "")


def test_a_packed_table_whose_file_names_repeat_recognises_the_photographs(photos, tmp_path):
    """Its images are named without their folders, which are not called like the classes."""
    (photos / "cat").rename(photos / "one")
    (photos / "dog").rename(photos / "two")
    table, paths = photos / "labels.csv", sorted(photos.glob("*/*.png"))
    lines = (f"{path.parent.name}/{path.name},{path.parent.name == 'one'}\n" for path in paths)
    table.write_text("".join(lines))
    packed = pack(table, tmp_path / "packed", val_fraction=0.25)
    splits = open_data(packed)
    about = {"data": str(packed), "images": record(splits).as_json()}
    learnt = {bytes(name).decode() for name in splits.train.names}
    found, note = judged(about, table)
    assert found
    assert not found & learnt
    assert f"{len(learnt)} of {len(paths)} images are left out" in note
    assert judged(about) == (names(splits.val), "")
    without_origins(packed)
    assert record(open_data(packed)) is None


def test_fingerprints_distinguish_packings_and_contents(photos, tmp_path):
    found = {
        name: fingerprint(open_data(pack(photos, tmp_path / name, jpeg=jpeg, **options)))
        for name, jpeg, options in (
            ("pixels", False, {}),
            ("smaller", False, {"size": 30}),
            ("jpeg", True, {}),
            ("coarser", True, {"quality": 50}),
        )
    }
    assert len(set(found.values())) == 4
    shutil.copytree(tmp_path / "pixels", tmp_path / "moved")
    assert fingerprint(open_data(tmp_path / "moved")) == found["pixels"]
    before = open_data(photos)
    stored = fingerprint(before)
    one = photos / "cat" / "03.png"
    content = bytearray(one.read_bytes())
    content[-20] ^= 1
    one.write_bytes(content)
    after = open_data(photos)
    assert not same_data(stored, after)
    assert same_data(image_record._names_and_sizes(before), after)  # what older runs stored


def test_the_list_is_in_the_run_folder_and_in_exported_weights(photos, tmp_path):
    run = minialex.train(photos, **TINY, epochs=1, out=tmp_path / "run")
    splits = open_data(photos)
    lines = (tmp_path / "run" / "held_out.txt").read_text().splitlines()
    assert {line.split(" ", 2)[2] for line in lines} == names(splits.val)
    photos.rename(tmp_path / "elsewhere")
    shutil.copy(tmp_path / "run" / "best.safetensors", tmp_path / "alone.safetensors")
    alone = minialex.load(tmp_path / "alone.safetensors", "numpy")
    evaluation = alone.evaluate(tmp_path / "elsewhere")
    assert evaluation.images == len(splits.val)
    assert evaluation.loss == pytest.approx(run.history[0]["val_loss"], rel=1e-6)


def test_fine_tuning_validates_on_images_unseen_in_pretraining(photos, tmp_path, capsys):
    minialex.train(photos, **TINY, epochs=1, max_steps=1, out=tmp_path / "first")
    settings = {**TINY, "initial": tmp_path / "first", "seed": 9, "epochs": 1, "progress": True}
    tuned = minialex.train(photos, **settings, max_steps=1, out=tmp_path / "tuned")
    held_out = judged(tuned.classifier.data)[0]
    assert not held_out & names(open_data(photos).train)
    assert "the initial weights were not trained on" in capsys.readouterr().out
    resumed = minialex.train(out=tmp_path / "tuned", resume=True, progress=False, max_steps=2)
    assert judged(resumed.classifier.data)[0] == held_out


@pytest.mark.parametrize("record_kept", [True, False])
def test_the_same_images_are_held_out_whatever_the_seed(photos, about, record_kept):
    ours = open_data(photos, seed=9)
    theirs = open_data(photos) if record_kept else split_by_position(ours.whole, 0.1, 0)
    if not record_kept:
        del about["images"]
    held = held_out.away_from(ours, about, str(photos))
    assert names(held.splits.val) >= names(theirs.val)
    assert not names(held.splits.val) & names(theirs.train)
    again = held_out.away_from(held.splits, about, str(photos))
    assert again.said == ""
    own_val = Splits(ours.train, subset(subset(ours.whole, np.arange(40)), np.arange(40)))
    assert "were trained on" in held_out.away_from(own_val, about, str(photos)).said


def test_training_images_of_earlier_runs_are_left_out_too(about, trained_on, photos):
    other = photographs(photos.parent / "other", seed=4)
    tuned = {"data": str(other), "images": record(open_data(other)).as_json()}
    tuned["started_from"] = about
    assert not judged(tuned, photos)[0] & trained_on


def test_a_lineage_has_no_duplicates_and_is_limited(about, photos, monkeypatch):
    other = {"data": "other", "images": about["images"]}
    older = {"data": "older", "seed": 3, "val_fraction": 0.1}
    chain = json.loads(json.dumps({**about, "started_from": {**other, "started_from": older}}))
    for _ in range(3):  # as in fine-tuning on the same images, again and again
        chain = shortened({**about, "seed": 8, "started_from": chain})
        assert [run["data"] for run in lineage(chain)] == [str(photos), "other", "older"]
    assert UNLISTED not in chain
    again = {**older, "seed": 4, "started_from": chain}
    assert len(lineage(shortened(again))) == 4  # another split of images that are not listed
    monkeypatch.setattr(judged_images, "MOST_RUNS", 2)
    for count in (1, 2):
        chain = shortened({"data": f"new {count}", "started_from": chain})
        assert len(lineage(chain)) == 2
        assert chain[UNLISTED] == 1 + count
    assert "the training images of 3 earlier runs of these weights" in judged(chain, photos)[1]
    monkeypatch.setattr(judged_images, "MOST_RUNS", 9)
    monkeypatch.setattr(judged_images, "MOST_LINES", 3)
    assert shortened({"data": "new", "started_from": about}) == {"data": "new", UNLISTED: 1}


def test_fine_tuning_again_and_again_lists_each_image_once(photos, tmp_path):
    start, found = {"epochs": 1, "max_steps": 1, "progress": False, "backend": "numpy"}, []
    minialex.train(photos, **TINY, epochs=1, max_steps=1, out=tmp_path / "0")
    for number in (1, 2, 3):
        before = tmp_path / str(number - 1) / "last.safetensors"
        run = minialex.train(photos, initial=before, **start, out=tmp_path / str(number))
        found.append(run.classifier.data)
    assert "started_from" not in found[0]
    assert found == [found[0]] * 3


def test_an_ensemble_refuses_images_that_a_member_was_trained_on(about, photos, tmp_path):
    shutil.copytree(photos, tmp_path / "copy")
    splits = open_data(tmp_path / "copy", seed=5)
    other = {"data": str(tmp_path / "copy"), "seed": 5, "images": record(splits).as_json()}
    one = replace(untrained(name="cifar10"), class_ids=("cat", "dog"), data=about)
    two = replace(one, data=other)
    with pytest.raises(InputError, match="network 2 was trained on images"):
        Ensemble((one, two)).evaluate(photos)


def test_one_photograph_per_class_is_refused_or_only_trained_on(tmp_path):
    photos = photographs(tmp_path / "photos", each=1)
    with pytest.raises(InputError, match=r"no class with two images.*`val_fraction=0`"):
        minialex.train(photos, **TINY, epochs=1, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    settings = {**TINY, "val_fraction": 0, "epochs": 2}
    with pytest.raises(InputError, match="'plateau' needs the validation error"):
        minialex.train(photos, **settings, schedule="plateau", out=tmp_path / "run")
    with pytest.raises(InputError, match="`stop_early` needs the validation loss"):
        minialex.train(photos, **settings, stop_early=2, out=tmp_path / "run")
    run = minialex.train(photos, **settings, schedule="step", out=tmp_path / "run")
    assert [row["val_top1_error"] for row in run.history] == [None, None]
    best, last = (minialex.load(tmp_path / "run" / f"{n}.safetensors") for n in ("best", "last"))
    for name, of_layer in last.params.items():
        np.testing.assert_array_equal(best.params[name]["weight"], of_layer["weight"])
    with pytest.raises(InputError, match="without validation images"):
        best.evaluate()


def test_names_in_two_forms_are_two_images(tmp_path):
    """As é and as e with an accent, of which one is held out."""
    if sys.platform == "darwin":
        pytest.skip("its file systems take the two forms for one name")
    for label in "ab":
        (tmp_path / label).mkdir()
        for number, name in enumerate(("caf\u00e9", "cafe\u0301", "c", "d")):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / label / f"{name}.png")
    for seed in range(6):
        splits = open_data(tmp_path, seed=seed, val_fraction=0.25)
        found = record(splits)
        whole = splits.whole
        held = [whole.image_name(i) for i in np.flatnonzero(found.held_out_by_name(whole))]
        assert sorted(held) == sorted(splits.val.image_name(i) for i in range(len(splits.val)))


def test_all_held_out_images_are_gone(tmp_path, monkeypatch):
    register_tiny(monkeypatch)
    photographs(tmp_path / "data", 10)
    run = tmp_path / "run"
    minialex.train(tmp_path / "data", **TINY, epochs=1, out=run)
    for line in (run / "held_out.txt").read_text().splitlines():
        (tmp_path / "data" / line.split(" ", 2)[2]).unlink()
    with pytest.raises(InputError, match="none of the images that were held out"):
        minialex.train(
            out=run, resume=True, epochs=2, allow_changed_data=True, progress=False, recipe="fitted"
        )
