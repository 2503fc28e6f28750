"""Runs the Python blocks of a Markdown page like a notebook's cells and puts their output below.

`python docs/notebook.py PAGE` prints the page with its output; the documentation's build does that
for every page of the course. A page is Jupytext's Markdown: `jupytext --to ipynb PAGE` makes a
notebook of it.
"""

import ast
import base64
import contextlib
import io
import re
import sys
from pathlib import Path
from typing import Any

BLOCK = re.compile(r"^```python\n(.*?)^```\n", re.MULTILINE | re.DOTALL)


def run(markdown: str, name: str = "page") -> str:
    """The page with the output of each block below it; an exception in one ends it."""
    cells = Cells(name)
    return BLOCK.sub(lambda block: block[0] + cells.run(block[1]), markdown)


class Cells:
    """Blocks that share their names, as in a notebook."""

    def __init__(self, name: str):
        self._name, self._count = name, 0
        self._names: dict[str, Any] = {"__name__": "__main__"}

    def run(self, source: str) -> str:
        """Execute a block; -> Markdown of what it printed and of its last expression's value."""
        self._count += 1
        where = f"{self._name}, block {self._count}"
        tree = ast.parse(source, where)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        printed, value = io.StringIO(), None
        with contextlib.redirect_stdout(printed):
            exec(compile(tree, where, "exec"), self._names)
            if last is not None:
                value = eval(compile(ast.Expression(last.value), where, "eval"), self._names)
        shown = [text(printed.getvalue())] if printed.getvalue() else []
        shown += [] if value is None else [display(value)]
        return "".join(f"\n{one}\n" for one in shown)


def text(said: str) -> str:
    """Plain output."""
    return f"```text\n{said.rstrip()}\n```"


def display(value: Any) -> str:
    """A value as a notebook shows it: as HTML, as a picture, or by its repr."""
    if hasattr(value, "_repr_html_"):
        return f'<div class="output">{" ".join(value._repr_html_().split())}</div>'
    if hasattr(value, "_repr_png_"):
        picture = base64.b64encode(value._repr_png_()).decode()
        return f'<div class="output"><img alt="output" src="data:image/png;base64,{picture}"></div>'
    return text(repr(value))


if __name__ == "__main__":
    for page in map(Path, sys.argv[1:]):
        print(run(page.read_text(encoding="utf-8"), page.name))
