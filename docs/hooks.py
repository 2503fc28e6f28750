"""A MkDocs hook: the table of training options, from the fields of their dataclasses."""

from dataclasses import Field

from minialex.parallel import DeviceConfig
from minialex.training.config import TrainConfig
from minialex.utils.options import flag, options

MARK = "<!-- training options -->"


def on_page_markdown(markdown: str, **_: object) -> str:
    """Put the table where a page has the mark."""
    return markdown.replace(MARK, table()) if MARK in markdown else markdown


def table() -> str:
    """One row for each argument of `minialex.train`, grouped as in `minialex train --help`."""
    lines = ["| argument | command line | meaning |", "|---|---|---|"]
    for one in options(TrainConfig, DeviceConfig):
        lines.append(f"| `{one.name}` | `{flag(one)}` | {_meaning(one)} |")
    return "\n".join(lines)


def _meaning(one: Field) -> str:
    text = one.metadata["help"].replace("|", "\\|")
    return f"{text}; may change on resume" if one.metadata["free_on_resume"] else text
