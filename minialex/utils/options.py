"""Arguments as values: dataclass fields with their help, their flag, and what may change."""

import argparse
from dataclasses import Field, field, fields
from typing import Any

from minialex.utils.arguments import Argument, Flag, Text


def option(
    default: Any,
    help: str,
    *,
    group: str,
    type: Argument | None = None,
    flag: str | None = None,
    metavar: str | None = None,
    action: str | None = None,
    free_on_resume: bool = False,
) -> Any:
    """A field of a frozen dataclass of arguments.

    `help` appears in the docstring and on the command line, where the field's name is the flag and
    `flag` an alternative; `type` (default: a name) parses it from text and says what is valid. A
    resumed run may change it if it is `free_on_resume`.
    """
    metadata = {
        "help": help,
        "group": group,
        "type": type or Text(),
        "flag": flag,
        "metavar": metavar,
        "action": action,
        "free_on_resume": free_on_resume,
    }
    return field(default=default, metadata=metadata)


def flags(one: Field) -> list[str]:
    """The command line's flags for a field: --batch-size for batch_size, after any alternative."""
    plain = "--" + one.name.replace("_", "-")
    return [plain] if one.metadata["flag"] is None else [one.metadata["flag"], plain]


def flag(one: Field) -> str:
    """The command line's first flag for a field."""
    return flags(one)[0]


def options(*configs: type) -> list[Field]:
    """The fields made by `option` of dataclasses of arguments, in order."""
    return [one for config in configs for one in fields(config) if "help" in one.metadata]


def check(config: Any) -> None:
    """Make the fields of a dataclass of arguments plain values; InputError for one out of range.

    None is valid for a field whose default it is.
    """
    for one in options(type(config)):
        value = getattr(config, one.name)
        if value is not None or one.default is not None:
            object.__setattr__(config, one.name, one.metadata["type"].check(one.name, value))


def add_options(parser: argparse.ArgumentParser, *configs: type) -> None:
    """Add an option for each field; options that are not given stay out of the namespace."""
    groups: dict[str, Any] = {}
    for one in options(*configs):
        about = one.metadata
        more: dict[str, Any] = {
            "dest": one.name,
            "default": argparse.SUPPRESS,
            "help": about["help"],
        }
        if isinstance(about["type"], Flag):
            more["action"] = argparse.BooleanOptionalAction
        else:
            more |= {"type": about["type"], "metavar": about["metavar"]}
        if about["action"] is not None:
            more["action"] = about["action"]
        title = about["group"]
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
        groups[title].add_argument(*flags(one), **more)


def documented(*configs: type) -> str:
    """The documentation of each argument, for a docstring."""
    lines = []
    for one in options(*configs):
        words, line = one.metadata["help"].split(), f"{one.name:<19}"
        for word in words:
            if len(line) + 1 + len(word) > 96:
                lines.append(line)
                line = " " * 19
            line += " " + word
        lines.append(line)
    return "\n".join(f"    {line}" for line in lines)
