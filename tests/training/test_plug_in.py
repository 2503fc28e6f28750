"""User-defined networks, optimisers etc.: trained, saved, loaded, resumed, refused."""

import json
import re
import shlex
from dataclasses import dataclass

import numpy as np
import pytest
from helpers.stripes import stripes
from helpers.tiny import register_tiny, tiny
from safetensors import safe_open

import minialex
from minialex import losses, models, optim, schedules
from minialex.cli import main
from minialex.data import own_augmentation
from minialex.errors import InputError
from minialex.exchange.write import write
from minialex.inference.classifier import to_portable
from minialex.layers import Dense, Layer
from minialex.models import Recipe, Variant
from minialex.network import Network

OWN = """
from pathlib import Path
from minialex.layers import Conv2D, Dense, ReLU
from minialex.exchange.write import write
from minialex.inference.classifier import to_portable
from minialex.models import Recipe, Variant
from minialex.network import Network

with Path(__file__).with_name("ran").open("a") as ran:
    ran.write("once ")

def build(classes, channels=2):
    layers = (("conv1", Conv2D(channels, kernel=5, stride=3)), ("relu1", ReLU()))
    return Network((*layers, ("fc2", Dense(classes))), (14, 14, 3))

small = Variant(build, Recipe(resize=20, batch_size=8), "small")

def half(recipe, epoch, errors):
    return 0.5

def name(recipe, epoch, errors):
    return str(recipe.batch_size)

def snow(image, draw):
    image[draw.random(image.shape[:2]) < 0.2] = 255
    return image

class Adam:
    slots = ("mean", "square")

    def __call__(self, b, weight, gradient, slots, rate, decay, step):
        mean = 0.9 * slots["mean"] + 0.1 * (gradient + decay * weight)
        square = 0.99 * slots["square"] + 0.01 * gradient**2
        size = rate * (1 - 0.99 ** (step + 1)) ** 0.5 / (1 - 0.9 ** (step + 1))
        return weight - size * mean / (b.xp.sqrt(square) + 1e-4), {"mean": mean, "square": square}

def no_state(b, weight, gradient, slots, rate, decay, step):
    return weight - rate * gradient

def squares(b, scores, labels, count=None, dloss=1.0):
    n = count or len(scores)
    wanted = b.xp.zeros_like(scores)
    wanted[b.xp.arange(len(labels)), labels] = 1
    return ((scores - wanted) ** 2).sum() / n, 2 * dloss / n * (scores - wanted)

def number(b, scores, labels, count=None, dloss=1.0):
    return 3

def per_image(b, scores, labels, count=None, dloss=1.0):
    return scores[:, 0], scores

def fails(b, scores, labels, count=None, dloss=1.0):
    return scores.nothing
"""


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    """Forget what other tests plugged in, and afterwards what this one did."""

    def forget():
        for registry in (models.registry, losses, optim, schedules, own_augmentation):
            monkeypatch.setattr(registry.PLUGINS, "registered", {})
            monkeypatch.setattr(registry.PLUGINS, "_sources", {})

    forget()
    return forget


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "net.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "net.py"


def train(**settings):
    usual = {"backend": "numpy", "epochs": 1, "batch_size": 8, "progress": False, "out": "run"}
    return minialex.train(stripes(16, 8), **{**usual, **settings})


def times_run(own):
    return own.with_name("ran").read_text().count("once") if own.with_name("ran").exists() else 0


def test_code_of_a_network_runs_only_if_named(own, forgotten):
    """Trained, refused given only its weights, and loaded once the user names its code."""
    trained = train(model="net.py:build", model_options={"channels": 3}).classifier
    assert times_run(own) == 1
    images = np.zeros((2, 20, 20, 3), np.uint8)
    forgotten()
    with pytest.raises(InputError, match=f"--model {own}:build"):
        minialex.load("run", "numpy")
    assert times_run(own) == 1
    classifier = train(model="net.py:build", out="other").classifier
    write(to_portable(classifier), own.parent / "exported.safetensors")
    forgotten()
    with pytest.raises(InputError, match=f"--model {own}:build"):
        minialex.load("exported.safetensors", "numpy")
    elsewhere = own.parent / "elsewhere" / "net.py"
    elsewhere.parent.mkdir()
    own.rename(elsewhere)
    again = minialex.load("run", "numpy", model="elsewhere/net.py:build")
    assert np.array_equal(again.probabilities(images), trained.probabilities(images))
    assert again.model.options == {"channels": 3}
    assert again.preprocessing.recipe.resize == 16  # 14 x 256 / 227


@dataclass(frozen=True)
class Gain(Layer):
    """A factor per channel that is learnt."""

    def output_shape(self, input_shape):
        return input_shape

    def parameter_shapes(self, input_shape):
        return {"gain": input_shape[-1:]}

    def init(self, b, draw, input_shape, dtype):
        return {"gain": b.asarray(np.ones(input_shape[-1]), dtype)}

    def forward(self, b, params, x, mode):
        return x * params["gain"], (x, params["gain"])

    def backward(self, b, params, saved, dy, *, input_gradient=True):
        x, gain = saved
        return dy * gain, {"gain": (dy * x).sum(axis=(0, 1, 2))}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_parameters_of_any_name_can_be_loaded(own, dtype):
    def build(classes):
        return Network((("gain", Gain()), ("fc", Dense(classes))), (14, 14, 3))

    trained = train(model=build, dtype=dtype).classifier
    again = minialex.load("run", "numpy", model=build)
    images = np.zeros((2, 20, 20, 3), np.uint8)
    assert again.dtype == dtype
    assert np.array_equal(again.probabilities(images), trained.probabilities(images))


def test_a_changed_network_is_refused_by_its_shapes(own, forgotten):
    train(model="net.py:build")
    own.write_text(OWN.replace("channels=2", "channels=5"))
    with pytest.raises(InputError, match="the file holds another network"):
        minialex.load("run", "numpy", model="net.py:build")


def test_a_resumed_run_runs_no_code_from_its_folder(own, forgotten):
    half = {"model": "net.py:small", "schedule": "net.py:half", "loss": "net.py:squares"}
    half |= {"augment": "net.py:snow", "optimizer": "net.py:Adam"}
    whole = train(**half, epochs=2, out="whole").classifier
    train(**half, epochs=2, max_steps=1)
    stored = json.loads((own.parent / "run" / "config.json").read_text())["settings"]
    assert {name: stored[name] for name in half} == half
    count = times_run(own)
    for left_out in half:
        forgotten()
        rest = {name: value for name, value in half.items() if name != left_out}
        with pytest.raises(InputError, match=f"name it: give its file again, --{left_out} PATH/"):
            minialex.train(stripes(16, 8), out="run", resume=True, progress=False, **rest)
    assert times_run(own) == count + 20  # four others are named, five times
    forgotten()
    done = minialex.train(stripes(16, 8), out="run", resume=True, progress=False, **half).classifier
    for layer, parameters in done.params.items():
        for name, value in parameters.items():
            assert np.array_equal(value, whole.params[layer][name])


def test_a_function_is_an_argument_and_its_location_is_stored(forgotten, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    variant = Variant(tiny, Recipe(resize=16, batch_size=8))
    found = train(model=variant, schedule=lambda recipe, epoch, errors: 1.0, loss=losses.Hinge)
    assert found.classifier.model.name == "helpers.tiny:tiny"
    with safe_open("run/best.safetensors", "np") as file:
        about = json.loads(file.metadata()["minialex"])["model"]
    assert about["source"] == "helpers.tiny:tiny"
    forgotten()
    with pytest.raises(InputError, match=r"helpers\.tiny:tiny"):
        minialex.load("run", "numpy")
    assert minialex.load("run", "numpy", model=tiny).class_names == found.classifier.class_names


def test_registered_names_work_everywhere(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    models.register("own-net", tiny, summary="mine")
    schedules.register("own-rate", lambda recipe, epoch, errors: 0.25)
    assert models.variants()["own-net"].summary == "mine"
    assert train(model="own-net", schedule="own-rate", lr=0.04).history[0]["learning_rate"] == 0.01
    optim.register("own-step", lambda b, w, g, slots, rate, decay, step: (w - rate * g, slots))
    assert train(model="own-net", optimizer="own-step", out="stepped").history
    with pytest.raises(InputError, match="did you mean 'own-step'"):
        train(optimizer="own-stop")
    with pytest.raises(InputError, match="did you mean 'own-net'"):
        models.get("own-ned")
    with pytest.raises(InputError, match="did you mean 'own-rate'"):
        train(schedule="own-rat")
    for name in ("layers", "alexnet"):
        with pytest.raises(InputError, match="taken"):
            models.register(name, tiny)


def test_files_of_built_in_networks_are_unchanged(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    register_tiny(monkeypatch)
    train(model="tiny")
    with safe_open("run/best.safetensors", "np") as file:
        about = json.loads(file.metadata()["minialex"])["model"]
    assert set(about) == {"name", "classes", "options", "dropout"}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("summary net.py:build --classes 3 --option channel=3", "did you mean 'channels'"),
        ("summary net.py:half", "the model 'net.py:half' failed: TypeError"),
        ("summary net.py:Recipe --classes 9", "is a Recipe: it must be a Network"),
        ("summary three.py:build --classes 4", "has 3 outputs, but the data 4 classes"),
        (
            "train --data shapes:48 --schedule net.py:name",
            "the schedule .*net.py:name returned '8'",
        ),
        ("train --data shapes:48 --loss net.py:square", "did you mean 'squares'"),
        ("train --data shapes:48 --loss net.py:number", "returned int: it must return the mean"),
        ("train --data shapes:48 --loss net.py:per_image", r"of the shapes \(16,\) and \(16, 12\)"),
        ("train --data shapes:48 --loss net.py:fails", "net.py:fails failed: AttributeError"),
        ("train --data shapes:48 --loss net.py", "--loss net.py: expected FILE.py:NAME"),
        ("predict shapes:1 --model net.py", "--model net.py: expected FILE.py:NAME"),
        (
            "train --data shapes:48 --optimizer net.py:no_state",
            "returned ndarray: it must return the w",
        ),
        ("train --data shapes:48 --optimizer adan", "unknown optimizer 'adan': did you mean"),
        (
            "train --data shapes:48 --optimizer net.py:Adam --momentum 0.9",
            "--momentum applies only to sgd",
        ),
        ("predict shapes:1 --model net.py:bulid", "did you mean 'build'"),
        ("predict shapes:1 --model alexnat", "did you mean 'alexnet'"),
    ],
)
def test_mistakes_give_a_one_sentence_error(own, capsys, line, words):
    (own.parent / "three.py").write_text(OWN.replace("Dense(classes)", "Dense(3)"))
    model = "--model net.py:small --backend numpy" if "train" in line else ""
    assert main.main(shlex.split(f"{line} {model}")) == 2
    [said] = capsys.readouterr().err.splitlines()[-1:]
    assert said.startswith("minialex: error: ")
    assert re.search(words, said), said


def test_the_printed_commands_name_the_users_code_again(own, forgotten, capsys):
    """From another folder's file too: a run that was stopped, and one that has ended."""
    elsewhere = own.parent / "my code" / "net.py"
    elsewhere.parent.mkdir()
    own.rename(elsewhere)
    names = {"model": "small", "loss": "squares", "optimizer": "Adam", "schedule": "half"}
    names["augment"] = "snow"
    given = " ".join(f"--{option} 'my code/net.py:{name}'" for option, name in names.items())
    usual = "--data shapes:48 --backend numpy --epochs 1 --no-report --out run"
    assert main.main(shlex.split(f"train {usual} --max-steps 1 {given}")) == 0
    for start in ("continue with: minialex ", "next: minialex "):
        printed = capsys.readouterr().out
        forgotten()
        assert main.main(shlex.split(printed.rpartition(start)[2].splitlines()[0])) == 0


def test_after_divergence_the_suggested_command_names_the_users_code_again(own, forgotten, capsys):
    code = f"--model '{own}:small' --loss '{own}:squares'"
    usual = "--data shapes:48 --backend numpy --epochs 1 --recipe published --no-report --out run"
    assert main.main(shlex.split(f"train {usual} {code} --lr 1e9")) == 1
    said = capsys.readouterr().err
    forgotten()
    again = shlex.split(said.rpartition("learning rate: minialex ")[2])
    again[again.index("--lr") + 1] = "0.001"
    assert main.main(again) == 0


def test_soft_targets_need_a_loss_that_takes_them(own):
    with pytest.raises(InputError, match="takes targets"):
        train(model="net.py:small", loss="net.py:squares", label_smoothing=0.1)


def test_a_users_augmentation_is_drawn_by_position_and_comes_first(own):
    """The same images at the same positions, whatever the batch; different ones elsewhere."""
    snow = own_augmentation.get(own_augmentation.use("net.py:snow"))
    images = np.full((6, 20, 20, 3), 7, np.uint8)
    whole = snow(images, np.arange(6), seed=1, epoch=2)
    assert np.array_equal(snow(images[2:4], np.arange(2, 4), seed=1, epoch=2), whole[2:4])
    assert (images == 7).all()
    assert {7, 255} == set(np.unique(whole))
    assert len({image.tobytes() for image in whole}) == 6
    for other in ({"seed": 2, "epoch": 2}, {"seed": 1, "epoch": 3}):
        assert not np.array_equal(snow(images, np.arange(6), **other), whole)


def test_a_run_with_users_code_can_be_reported(own, forgotten, capsys):
    """Its report needs the network and the augmentation, but not the schedule or the loss."""
    half = {"model": "net.py:small", "schedule": "net.py:half", "augment": "net.py:snow"}
    minialex.train("shapes:48", **half, backend="numpy", max_steps=1, progress=False, out="run")
    forgotten()
    report, model, augment = "report run --backend numpy --images 4", *list(half.values())[::2]
    for line, words in (
        (f"{report} --model {model}", "--augment PATH/net.py:snow"),
        (f"{report} --augment {augment}", f"{own}:small"),
    ):
        forgotten()
        assert main.main(shlex.split(line)) == 2
        assert words in capsys.readouterr().err
    assert main.main(shlex.split(f"{report} --model {model} --augment {augment}")) == 0
    assert main.main(shlex.split(f"kernels --model-file run --model {model}")) == 0


@pytest.mark.usefixtures("reports")
def test_the_command_that_writes_the_report_later_names_the_users_code(
    own, forgotten, capsys, monkeypatch
):
    code = {"model": "net.py:small", "schedule": "net.py:half", "augment": "net.py:snow"}
    with monkeypatch.context() as patch:
        patch.setattr("minialex.training.report.write", lambda *given: 1 / 0)
        minialex.train("shapes:48", **code, backend="numpy", epochs=1, out="a run", progress=True)
    [said] = [line for line in capsys.readouterr().out.splitlines() if "tries again" in line]
    forgotten()
    again = shlex.split(said.rpartition("; minialex ")[2].removesuffix(" tries again"))
    assert main.main([*again, "--backend", "numpy"]) == 0


def test_an_unknown_augmentation_is_refused_before_anything_is_written(own):
    with pytest.raises(InputError, match="unknown augmentation 'snow'"):
        train(model="net.py:small", augment="snow")
    assert not (own.parent / "run").exists()


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda image, draw: image[:3], r"uint8 \(3, 20, 3\): it must return uint8 \(20, 20, 3\)"),
        (lambda image, draw: image / 2, r"float64 \(20, 20, 3\): it must return uint8"),
        (lambda image, draw: None, r"NoneType \(\): it must return uint8"),
        (lambda image, draw: 1 / 0, "failed: ZeroDivisionError"),
    ],
)
def test_an_augmentation_must_return_an_image(own, function, words):
    with pytest.raises(InputError, match=words):
        train(model="net.py:small", augment=function)


def test_the_chance_level_of_a_users_loss(own):
    loss = losses.get(losses.use("net.py:squares"))
    assert loss.chance(7) == pytest.approx(1.0)  # one score of each row lacks 1
