"""Options of networks and commands that would be misunderstood."""

import pytest

import minialex
from minialex import models
from minialex.cli import main
from minialex.errors import InputError, unknown
from minialex.layers import Dense, Dropout
from minialex.models import ablations
from minialex.network import Network
from minialex.utils.arguments import Settings


def said(capsys, *words, code=2):
    assert main.main([*map(str, words)]) == code
    return capsys.readouterr().err


@pytest.mark.parametrize(("text", "value"), [("False", False), ("true", True), ("no", "no")])
def test_true_and_false_as_python_writes_them(text, value):
    assert Settings()(f"half={text}") == ("half", value)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"half": "no"}, "option half is 'no': it must be true or false"),
        ({"dropout": 2}, "option dropout is 2"),
        ({"towers": True}, "option towers is True: it must be a whole number"),
        ({"towers": 1.0}, "option towers is 1.0"),
    ],
)
def test_options_of_networks_have_types(options, sentence):
    with pytest.raises(InputError, match=sentence):
        models.get("alexnet-64", 5, **options)


def test_options_of_ones_own_network_and_of_stored_ones():
    """A network's own option of the same name; numbers and texts that older versions accepted."""

    def net(classes: int, dropout: float = 0.5) -> Network:
        return Network((("drop1", Dropout(dropout)), ("fc1", Dense(classes))), (8, 8, 3))

    ablations.require_types(net, {"dropout": 0.3})
    assert (
        models.get("alexnet-64", 5, half=1).network
        == models.get("alexnet-64", 5, half=True).network
    )
    for value in (1, "no"):
        models.stored("alexnet-64", 5, {"half": value})


@pytest.mark.parametrize("name", ["name", "classes"])
def test_what_is_no_option_of_a_network(capsys, name):
    assert f"leave out --option {name}" in said(
        capsys, "summary", "cifar10", "--option", f"{name}=5"
    )


def test_the_quality_of_no_jpeg(tmp_path, capsys):
    words = ["prepare", "shapes:48", tmp_path / "packed", "--quality", "50"]
    assert "--quality has no effect without --jpeg" in said(capsys, *words)


def test_a_kind_without_names():
    assert str(unknown("augmentation", "x", ())).endswith("no augmentation is known by name")


def test_cross_validation_trains_to_the_end(tmp_path):
    with pytest.raises(InputError, match="leave out `max_steps`"):
        minialex.cross_validate("shapes:48", folds=2, max_steps=1, out=tmp_path / "folds")
