"""Every training argument has a type and a range, and invalid values give a one-sentence error."""

from dataclasses import fields

import numpy as np
import pytest

import minialex
from minialex.errors import InputError
from minialex.parallel import DeviceConfig
from minialex.training.config import TrainConfig
from minialex.utils.arguments import Flag, ListOf, Number, Settings, Text, integer


@pytest.mark.parametrize(
    ("name", "value", "plain"),
    [
        ("batch_size", np.int64(16), 16),
        ("batch_size", 16.0, 16),
        ("batch_size", np.array(16), 16),
        ("lr", np.float32(0.5), 0.5),
        ("lr", 1, 1.0),
        ("seed", np.uint64(2**64 - 1), 2**64 - 1),
        ("mirror", np.bool_(False), False),
        ("model", np.str_("cifar10"), "cifar10"),
        ("model_options", {"towers": np.int64(1)}, {"towers": 1}),
        ("devices", range(2), (0, 1)),
        ("devices", np.array([0, 1]), (0, 1)),
        ("devices", (n for n in (1, 0)), (1, 0)),
        ("devices", "0,1", (0, 1)),
        ("devices", np.int64(1), 1),
        ("threads", np.int32(2), 2),
    ],
)
def test_numpy_scalars_become_plain_values(name, value, plain):
    config = TrainConfig if name in {one.name for one in fields(TrainConfig)} else DeviceConfig
    found = getattr(config(**{name: value}), name)
    assert found == plain
    assert type(found) is type(plain)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("epochs", 1.5, "epochs is 1.5: it must be a whole number of at least 1"),
        ("epochs", 0, "of at least 1"),
        ("batch_size", "16", "batch_size is '16': it must be a whole number"),
        ("batch_size", True, "batch_size is True"),
        ("lr", 0.0, "lr is 0.0: it must be a number above 0"),
        ("lr", float("nan"), "lr is nan"),
        ("lr", float("inf"), "lr is inf"),
        ("lr", "0.1", "lr is '0.1'"),
        ("momentum", 1.0, "it must be a number of at least 0 and below 1"),
        ("momentum", -0.9, "momentum is -0.9"),
        ("weight_decay", -1.0, "weight_decay is -1.0"),
        ("colour_noise", float("nan"), "colour_noise is nan"),
        ("val_fraction", 1, "val_fraction is 1"),
        ("margin", 0, "margin is 0: it must be a number above 0"),
        ("seed", 2**70, r"it must be a whole number of at least 0 and below 2\*\*64"),
        ("seed", None, "seed is None"),
        ("max_steps", -5, "max_steps is -5"),
        ("checkpoint_every", None, "checkpoint_every is None"),
        ("workers", 0, "workers is 0"),
        ("mirror", "no", "mirror is 'no': it must be True or False"),
        ("mirror", np.zeros(3), "it must be True or False"),
        ("schedule", "stpe", "did you mean 'step'"),
        ("loss", 2, "loss is 2: it must be a name"),
        ("dtype", "float16", '"float32" or "float64"'),
        ("model_options", ["towers=1"], "a dictionary such as"),
        ("initial", "", "initial is '': it must be a path"),
        ("data", "", "data is '': it must be a folder"),
        ("data", ["a", "b"], "data is"),
        ("data", 3, "data is 3"),
        ("devices", [-1], "one of devices is -1"),
        ("devices", "0;1", "devices is '0;1': it must be a list"),
        ("devices", [], "no device was given"),
        ("parallel", "data", r"give them, such as devices=\[0, 1\]"),
        ("threads", "2", "threads is '2'"),
        ("backend", 5, "backend is 5"),
    ],
)
def test_a_value_out_of_range_gives_a_one_sentence_error(name, value, sentence):
    config = TrainConfig if name in {one.name for one in fields(TrainConfig)} else DeviceConfig
    with pytest.raises(InputError, match=sentence) as refused:
        config(**{name: value})
    assert "\n" not in str(refused.value)


def test_every_field_has_a_type_with_a_range():
    for one in (*fields(TrainConfig), *fields(DeviceConfig)):
        kind = one.metadata["type"]
        with pytest.raises(InputError):
            kind.check(one.name, object())
        if one.default is not None:
            assert kind.check(one.name, one.default) == one.default


def test_types_parse_the_command_line():
    assert ListOf(integer(0))("0,1") == [0, 1]
    assert Settings()("towers=1") == ("towers", 1)
    assert Settings()("input_size=big") == ("input_size", "big")
    assert Number(float)("0.5") == 0.5
    assert Text()("alexnet") == "alexnet"
    with pytest.raises(ValueError, match="invalid literal"):
        integer(0)("many")
    assert Flag().check("x", 1) is True


def test_an_empty_name_is_not_the_current_folder():
    with pytest.raises(InputError, match="out is '': it must be a path"):
        minialex.train(out="")


def test_prepare_takes_numpy_scalars_and_refuses_others(tmp_path):
    done = minialex.prepare("shapes:48", tmp_path / "a", size=np.int64(24), progress=False)
    assert done.images == {"train": 48, "val": 12}
    with pytest.raises(InputError, match="size is '24': it must be a whole number of at least 8"):
        minialex.prepare("shapes:48", tmp_path / "b", size="24")
    with pytest.raises(InputError, match="val_fraction is 1"):
        minialex.prepare("shapes:48", tmp_path / "b", val_fraction=1)
