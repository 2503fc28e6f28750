"""Run folders edited by hand, held-out images that are gone, networks that cannot be trained."""

import json

import pytest
from helpers.tiny import photographs, register_tiny

import minialex
from minialex import models
from minialex.errors import InputError
from minialex.layers import Conv2D, Dense
from minialex.network import Network
from minialex.results import published_curve
from minialex.training import run_folder
from minialex.training.resume import inherited
from minialex.training.transfer import start_from

TINY = {"model": "tiny", "batch_size": 16, "backend": "numpy", "progress": False}


def test_another_runs_curve_counts_its_own_images(tmp_path):
    file = tmp_path / "history.csv"
    file.write_text("epoch,val_loss\n1,0.5\n")
    assert published_curve.read([file], batch_size=None, epoch_images=60).points == {
        "val_loss": [(60, 0.5)]
    }
    (tmp_path / "config.json").write_text(json.dumps({"data": {"train_images": 7}}))
    assert published_curve.read([file], batch_size=None, epoch_images=60).points == {
        "val_loss": [(7, 0.5)]
    }
    file.write_text(f"epoch,val_loss\n1,{'0' * 200_000}\n")
    with pytest.raises(InputError, match="is not a table"):
        published_curve.read([file], batch_size=None, epoch_images=60)


def test_a_history_edited_by_hand_has_gaps(tmp_path):
    (tmp_path / "history.csv").write_text('epoch,val_loss,changed\n1,"0,5",rate\n2,0.25,\n')
    first, second = run_folder.read_history(tmp_path)
    assert first == {"epoch": 1.0, "val_loss": None, "changed": "rate"}
    assert second["val_loss"] == 0.25
    (tmp_path / "config.json").write_text('{"settings": 5}')
    with pytest.raises(InputError, match="is not the configuration of a minialex run"):
        inherited(tmp_path, None, {})


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


@pytest.mark.parametrize(("name", "value"), [("fold", "1/2"), ("micro_batch", 3)])
def test_a_setting_that_the_run_did_not_have(tmp_path, monkeypatch, name, value):
    register_tiny(monkeypatch)
    minialex.train("shapes:48", **TINY, epochs=2, max_steps=1, out=tmp_path / "run")
    with pytest.raises(InputError, match=f"was started with no {name}, not"):
        minialex.train(out=tmp_path / "run", resume=True, progress=False, **{name: value})


def test_classes_that_are_numbers_are_matched_by_name():
    from helpers.untrained import untrained

    source = untrained(name="cifar10")
    numbers = tuple(map(str, range(12)))
    object.__setattr__(source, "class_names", numbers)
    object.__setattr__(source, "class_ids", numbers)
    other = tuple(sorted(numbers))
    with pytest.raises(InputError, match="has class '2' where the data set has '10'"):
        start_from(source, source.model.network, class_names=other, class_ids=other)
    object.__setattr__(source, "data", {})  # of another program, whose classes have no names
    start_from(source, source.model.network, class_names=other, class_ids=other)


@pytest.mark.parametrize(
    ("layers", "shape", "sentence"),
    [
        (lambda c: (("fc", Dense(c)),), (16, 20, 3), "16 x 20 pixels: it must be square"),
        (lambda c: (("c1", Conv2D(c, 16)),), (16, 16, 3), r"shape \(1, 1, 5\), not \(5,\)"),
    ],
)
def test_networks_that_cannot_be_trained(monkeypatch, layers, shape, sentence):
    monkeypatch.setattr(models.registry.PLUGINS, "registered", {})
    models.register("own-net", lambda classes: Network(layers(classes), shape))
    with pytest.raises(InputError, match=sentence):
        models.get("own-net", 5)
