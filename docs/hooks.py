"""MkDocs hooks: the table of training options, and the output of the course's code."""

import os
import subprocess
import sys
from dataclasses import Field
from pathlib import Path
from typing import Any

from minialex.parallel import DeviceConfig
from minialex.training.config import TrainConfig
from minialex.utils.options import flag, options

MARK = "<!-- training options -->"


def on_page_markdown(markdown: str, page: Any, **_: object) -> str:
    """Put the table where a page has the mark, and run a page of the course.

    COURSE=off leaves the course's code without its output: `mkdocs serve` is then quick.
    """
    if page.file.src_uri.startswith("course/") and os.environ.get("COURSE") != "off":
        return executed(Path(page.file.abs_src_path))
    return markdown.replace(MARK, table()) if MARK in markdown else markdown


def executed(path: Path) -> str:
    """A page with the output of its code, run from the repository in a process of its own."""
    here = Path(__file__).parent
    command = [sys.executable, str(here / "notebook.py"), str(path)]
    environment = {**os.environ, "PYTHONPATH": str(here.parent), "PYTHONIOENCODING": "utf-8"}
    ended = subprocess.run(
        command, cwd=here.parent, env=environment, capture_output=True, encoding="utf-8"
    )
    if ended.returncode:
        raise RuntimeError(f"{path.name} failed:\n{ended.stderr}")
    return ended.stdout


def table() -> str:
    """One row for each argument of `minialex.train`, grouped as in `minialex train --help`."""
    lines = ["| argument | command line | meaning |", "|---|---|---|"]
    for one in options(TrainConfig, DeviceConfig):
        lines.append(f"| `{one.name}` | `{flag(one)}` | {_meaning(one)} |")
    return "\n".join(lines)


def _meaning(one: Field) -> str:
    text = one.metadata["help"].replace("|", "\\|")
    return f"{text}; may change on resume" if one.metadata["free_on_resume"] else text
