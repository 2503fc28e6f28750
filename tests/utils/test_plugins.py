"""Users' own code: found by name, file, module or entry point; run only when named."""

import os
import sys
from dataclasses import dataclass
from functools import partial
from importlib.metadata import EntryPoint

import pytest

from minialex.errors import InputError
from minialex.utils import plugins
from minialex.utils.plugins import Registry

FILE = """
import beside
MADE = []

def build(classes):
    return classes + beside.ONE

def broken():
    return 1 / 0
"""


def write():
    """A function of a module."""


@pytest.fixture
def registry():
    return Registry("model", "--model", {"plain": (len, "")}, lambda given, source: (given, source))


@pytest.fixture
def net(tmp_path, monkeypatch):
    (tmp_path / "beside.py").write_text("ONE = 1\n")
    (tmp_path / "net.py").write_text(FILE)
    yield tmp_path / "net.py"
    sys.modules.pop("beside", None)


def test_a_file_is_run_and_its_function_gets_a_short_name(registry, net):
    name = registry.use(f"{net}:build")
    assert name == "net.py:build"
    build, source = registry.get(name)
    assert build(2) == 3
    assert source == f"{net}:build"
    assert registry.names() == ("plain", "net.py:build")
    assert str(net.parent) not in sys.path


def test_a_name_alone_runs_nothing(registry, net, monkeypatch):
    monkeypatch.chdir(net.parent)
    for name in ("net.py:build", f"{net}:build", "beside:ONE"):
        with pytest.raises(InputError, match="not run unless you name it"):
            registry.get(name)
    assert "beside" not in sys.modules


def test_modules_functions_and_objects(registry):
    assert registry.use("textwrap:dedent") == "textwrap:dedent"
    assert registry.use(write) == f"{__name__}:write"
    assert registry.use(partial(plugins.short, "a:b")) == "minialex.utils.plugins:short"

    @dataclass
    class Made:
        build: object

    assert registry.use(Made(plugins.load)) == "minialex.utils.plugins:load"
    assert registry.use("plain") == "plain"
    assert registry.use(3) == 3
    assert registry.use(None) is None


def test_an_installed_package_is_found_by_its_entry_point(registry, monkeypatch):
    point = EntryPoint("theirs", "minialex.utils.plugins:short", "minialex.models")

    def installed(group, name="theirs"):
        return [point] if (group, name) == ("minialex.models", "theirs") else []

    monkeypatch.setattr(plugins, "entry_points", installed)
    assert registry.names() == ("plain", "theirs")
    assert registry.get("theirs") == (plugins.short, "minialex.utils.plugins:short")
    with pytest.raises(InputError, match="did you mean 'theirs'"):
        registry.get("theirz")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("net.py:bulid", "did you mean 'build'"),
        ("net.py:build.x", "expected FILE.py:NAME"),
        ("net.py:", "expected FILE.py:NAME"),
        ("none.py:build", "no file none.py"),
        ("no.such.module:build", "cannot be imported: ModuleNotFoundError"),
        ("odd.py:build", r"odd.py cannot be run: NameError: name 'odd' is not defined \(line 2\)"),
        ("syntax.py:build", r"SyntaxError: .* \(line 1\)"),
    ],
)
def test_unusable_references_give_a_one_sentence_error(registry, net, monkeypatch, given, words):
    monkeypatch.chdir(net.parent)
    (net.parent / "odd.py").write_text("\nodd\n")
    (net.parent / "syntax.py").write_text("def (\n")
    with pytest.raises((InputError, FileNotFoundError), match=words):
        registry.use(given)
    assert not registry.registered


@pytest.mark.parametrize(("name", "words"), [("plain", "is taken"), ("a b", "letters"), (3, "let")])
def test_invalid_names_cannot_be_registered(registry, name, words):
    with pytest.raises(InputError, match=words):
        registry.register(name, len)


def test_an_error_in_users_code_gives_its_line(registry, net):
    registry.use(f"{net}:broken")
    broken, _ = registry.get("net.py:broken")
    with pytest.raises(InputError, match=r"it failed: ZeroDivisionError: .* \(line 9\)") as raised:
        plugins.run("it", broken)
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


def test_a_file_rewritten_within_its_second_is_read_anew(tmp_path, monkeypatch):
    """Python's own cache would take it for unchanged: the same size and time in seconds."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    file = tmp_path / "one.py"
    for wanted in (1, 2):
        file.write_text(f"ONE = {wanted}\n")
        os.utime(file, (1e9, 1e9))
        found = plugins.load_file(file)
        assert wanted == found.ONE
    assert [path.name for path in tmp_path.iterdir()] == ["one.py"]
