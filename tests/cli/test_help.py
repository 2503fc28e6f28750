"""Help is immediate and complete, and every printed example works."""

import inspect
import re
import shlex
import subprocess
import sys

import pytest
from helpers.cli_tools import write_photo

import minialex
from minialex.cli import main
from minialex.cli.parser import COMMANDS, parser


def help_of(capsys, *words) -> str:
    with pytest.raises(SystemExit) as ended:
        main.main([*words, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


def examples(text: str) -> list[str]:
    return re.findall(r"^  (minialex .*)$", re.sub(r" \\\n +", " ", text), re.MULTILINE)


@pytest.mark.usefixtures("slim_networks")
def test_every_printed_example_works(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("starlette", reason="starlette is not installed (extra `show`)")
    # it would not end; tests/show asks it for its page
    monkeypatch.setattr("minialex.show.server.serve", lambda page, port: print(page, port))
    write_photo(tmp_path / "photo.jpg")
    lines = []
    for name in COMMANDS:
        found = examples(help_of(capsys, name))
        assert found, f"minialex {name} --help shows no example"
        lines += found
    assert examples(help_of(capsys))[0] in lines
    # these take seconds, and tests/cli/test_output.py and tests/experiments run them
    slow = [line for line in lines if re.match(r"minialex (check$|reproduce )", line)]
    for line in lines:
        program, *arguments = shlex.split(line.replace("shapes:400", "shapes:48"))
        assert program == "minialex"
        if line in slow:
            parser().parse_args(arguments)
            continue
        code = main.main(arguments)
        output, err = capsys.readouterr()
        assert code == 0, f"{line}: {err}"
        assert output.strip(), line


@pytest.mark.parametrize("columns", ["80", "200"])
def test_every_help_line_fits_in_80_columns(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    for words in ((), *((name,) for name in COMMANDS)):
        long = [line for line in help_of(capsys, *words).splitlines() if len(line) > 80]
        assert not long, words


def test_train_has_the_options_of_the_function(capsys):
    text = help_of(capsys, "train")
    offered = set(re.findall(r"--([a-z-]+)", text))
    spelt = {"progress": "quiet"}
    functions = {"on_step", "on_epoch"}  # of Python alone
    for name in set(inspect.signature(minialex.train).parameters) - functions:
        assert spelt.get(name, name).replace("_", "-") in offered


def test_help_imports_nothing_heavy():
    heavy = "{'numpy', 'PIL', 'scipy', 'numba', 'tqdm', 'safetensors', 'minialex.training'}"
    script = (
        "import sys, minialex.cli.main\n"
        "assert not {'argparse', 'minialex.cli.parser'} & set(sys.modules)\n"  # Ctrl-C comes early
        "try: minialex.cli.main.main(['--help'])\n"
        f"except SystemExit: sys.exit(repr({heavy} & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ended.stderr.strip() == "set()"


def test_version_is_printed(capsys):
    with pytest.raises(SystemExit):
        main.main(["--version"])
    assert capsys.readouterr().out == f"minialex {minialex.__version__}\n"
