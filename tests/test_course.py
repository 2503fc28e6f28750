"""The course: its pages run like notebooks, and each has its claim, exercise and answer.

The documentation's build runs every chapter; here only those that take no training are run.
"""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CHAPTERS = sorted((ROOT / "docs" / "course").glob("[1-9]*.md"))


def load(name):
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


notebook = load("notebook")


def test_there_are_eight_chapters_in_the_order_of_the_index():
    index = (ROOT / "docs" / "course" / "index.md").read_text(encoding="utf-8")
    assert re.findall(r"\]\((.*?)\)", index) == [path.name for path in CHAPTERS]
    assert len(CHAPTERS) == 8
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for path in CHAPTERS:
        assert f"course/{path.name}" in navigation


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_each_has_its_parts(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith(f"# {path.name[0]}. ")
    assert re.match(r"\*\*Paper, sections? [\d. and]+", lines[2])
    paragraphs = path.read_text(encoding="utf-8").split("\n\n")
    assert paragraphs[2].startswith("**On slides.** *")
    assert max(map(len, lines)) <= 120
    assert lines.index("## Exercise") < lines.index("## Answer")
    assert "```python" in lines[lines.index("## Answer") :]  # an answer is computed


@pytest.mark.parametrize("number", [2, 4, 5, 6])
def test_chapters_without_training_run(number, monkeypatch):
    monkeypatch.chdir(ROOT)
    path = CHAPTERS[number - 1]
    text = path.read_text(encoding="utf-8")
    shown = notebook.run(text, path.name)
    assert shown.count("```text") + shown.count('class="output"') >= text.count("```python") / 2
    if number == 2:
        assert "[True, True, True, True] True" in shown  # five times the same sum


def test_cells_share_names_and_show_the_last_value():
    page = """# Title

```python
def twice(x):
    return 2 * x


print("hello")
```

Between.

```python
twice(21)
```

```python
class Table:
    def _repr_html_(self):
        return "<p>\\n<b>b</b></p>"


Table()
```

```python
quiet = 1
```
"""
    shown = notebook.run(page)
    assert "```\n\n```text\nhello\n```\n\nBetween." in shown
    assert "```text\n42\n```" in shown
    assert '<div class="output"><p> <b>b</b></p></div>' in shown
    assert shown.endswith("quiet = 1\n```\n")
    assert "Between." in shown


def test_a_block_that_fails_ends_the_page():
    with pytest.raises(ZeroDivisionError) as error:
        notebook.run("```python\nx = 1\n```\n\n```python\nx / 0\n```\n", "page.md")
    assert "page.md, block 2" in [str(entry.path) for entry in error.traceback]


def test_the_build_runs_a_page_in_a_process_of_its_own(tmp_path):
    hooks = load("hooks")
    page = tmp_path / "page.md"
    page.write_text("```python\nimport minialex\n\nminialex.__version__\n```\n", encoding="utf-8")
    assert f"'{__import__('minialex').__version__}'" in hooks.executed(page)
    page.write_text("```python\n1 / 0\n```\n", encoding="utf-8")
    with pytest.raises(RuntimeError, match=r"page\.md failed(.|\n)*ZeroDivisionError"):
        hooks.executed(page)
