"""README and docs/: commands parse, mentioned files exist, links have targets."""

import re
import shlex
from pathlib import Path

import pytest

from minialex.cli.parser import parser

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
_PACKAGES = ("minialex/", "reference/", "examples/", "tests/", "docs/", ".ci/")
page = pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def commands(text: str) -> list[list[str]]:
    """The arguments of every `minialex` command, in blocks and between backticks."""
    blocks = re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    # a backslash ends a line of a command that goes on
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    # a span between backticks may be broken over two lines
    lines += [" ".join(span.split()) for span in re.findall(r"(?<!`)`(minialex [^`]+)`", text)]
    parts = [part for line in lines for part in re.split(r"&&|;", line)]
    found = [shlex.split(part, comments=True) for part in parts if "minialex " in part]
    # `minialex train` alone is the command's name, and --help ends the process
    return [w[1:] for w in found if w[0] == "minialex" and len(w) > 2 and "--help" not in w]


@page
def test_commands_parse(path):
    for words in commands(path.read_text(encoding="utf-8")):
        parser().parse_args(words)


@page
def test_mentioned_files_exist(path):
    if path.name == "CHANGELOG.md":
        pytest.skip("names former modules")
    text = path.read_text(encoding="utf-8")
    for name in re.findall(r"`([\w./-]+/[\w.-]*)`", text):
        if name.startswith(_PACKAGES) and not re.search(r"NAME|FAMILY", name):
            assert (ROOT / name).exists(), name


@page
def test_links_have_targets(path):
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        assert (path.parent / link).exists(), link


def test_readme_is_one_page():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
