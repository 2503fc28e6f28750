"""A tiny run, and helpers to run a command line and inspect its output."""

import shlex
from pathlib import Path

import pytest
from helpers.cli_tools import TINY, write_photo

from minialex.cli import main


@pytest.fixture
def command(capsys):
    """Run a command line here: -> (exit code, standard output, standard error)."""

    def run(line: str) -> tuple[int, str, str]:
        code = main.main(shlex.split(line))
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def refused(command):
    """Run a command line that must be refused: -> its sentence."""

    def run(line: str, code: int = 2) -> str:
        found, _, err = command(line)
        *before, last = err.splitlines()
        assert all(text.startswith(("using the newest run", "skipped: ")) for text in before)
        assert last.startswith("minialex: error: ")
        assert found == code
        return last

    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with a tiny run in runs/tiny and a photograph, photo.jpg."""
    folder = tmp_path_factory.mktemp("trained")
    line = f"train {TINY} --out {folder}/runs/tiny --quiet"
    assert main.main(shlex.split(line)) == 0
    write_photo(folder / "photo.jpg")
    return folder


@pytest.fixture
def here(trained, monkeypatch) -> Path:
    """`trained` as the current folder."""
    monkeypatch.chdir(trained)
    return trained
