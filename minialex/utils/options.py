"""Arguments as values: dataclass fields that know their help, their flag, and what may change."""

import argparse
import json
from collections.abc import Callable
from dataclasses import Field, field, fields
from typing import Any


def option(
    default: Any,
    help: str,
    *,
    group: str,
    type: Callable[[str], Any] | None = None,
    flag: str | None = None,
    metavar: str | None = None,
    action: str | None = None,
    free_on_resume: bool = False,
) -> Any:
    """A field of a frozen dataclass of arguments.

    `help` stands in the docstring and on the command line, whose flag is the field's name unless
    `flag` says otherwise; `type` reads it from text (bool makes --name and --no-name). A resumed
    run may change it if it is `free_on_resume`.
    """
    metadata = {
        "help": help,
        "group": group,
        "type": type,
        "flag": flag,
        "metavar": metavar,
        "action": action,
        "free_on_resume": free_on_resume,
    }
    return field(default=default, metadata=metadata)


def list_of(type: Callable[[str], Any]) -> Callable[[str], list]:
    """An argument type: values separated by commas."""

    def read(text: str) -> list:
        return [type(part) for part in text.split(",")]

    read.__name__ = "list"  # argparse prints it when `type` fails
    return read


def name_and_value(text: str) -> tuple[str, Any]:
    """NAME=VALUE; numbers and true/false are read."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def flag(one: Field) -> str:
    """The command line's name of a field: --batch-size for batch_size."""
    return one.metadata["flag"] or "--" + one.name.replace("_", "-")


def options(*configs: type) -> list[Field]:
    """The fields of dataclasses of arguments that were made by `option`, in order."""
    return [one for config in configs for one in fields(config) if "help" in one.metadata]


def add_options(parser: argparse.ArgumentParser, *configs: type) -> None:
    """A command-line option for each field; one that is not given stays out of the namespace."""
    groups: dict[str, Any] = {}
    for one in options(*configs):
        about = one.metadata
        more: dict[str, Any] = {
            "dest": one.name,
            "default": argparse.SUPPRESS,
            "help": about["help"],
        }
        if about["type"] is bool:
            more["action"] = argparse.BooleanOptionalAction
        else:
            more |= {"type": about["type"] or str, "metavar": about["metavar"]}
        if about["action"] is not None:
            more["action"] = about["action"]
        title = about["group"]
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
        groups[title].add_argument(flag(one), **more)


def documented(*configs: type) -> str:
    """A line or more for each argument, for a docstring."""
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
