"""The parser of the `minialex` command: its subcommands, their help, and misspelt words."""

import argparse
import difflib
import re
import shutil
from typing import Any, NoReturn

from minialex import __version__
from minialex.cli import (
    bench,
    check,
    data,
    evaluate,
    explain,
    export,
    features,
    import_weights,
    kernels,
    neighbors,
    predict,
    prepare,
    report,
    reproduce,
    show,
    summary,
    train,
    weights,
)
from minialex.errors import InputError

COMMANDS = {
    "data": data,
    "prepare": prepare,
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "features": features,
    "kernels": kernels,
    "neighbors": neighbors,
    "explain": explain,
    "show": show,
    "report": report,
    "weights": weights,
    "export": export,
    "import": import_weights,
    "reproduce": reproduce,
    "summary": summary,
    "check": check,
    "bench": bench,
}

_WIDTH = 80  # columns of help at most: long lines are hard to read


class _Help(argparse.RawDescriptionHelpFormatter):
    """Formats help for the width of the terminal, at most 80 columns."""

    def __init__(self, prog: str, **options: Any):
        width = min(_WIDTH, shutil.get_terminal_size().columns) - 2
        super().__init__(prog, **{"width": width, **options})


class Parser(argparse.ArgumentParser):
    """An argument parser that raises InputError; options cannot be abbreviated.

    `commands` are the parsers of the subcommands.
    """

    commands: dict[str, "Parser"]

    def __init__(self, **options: Any) -> None:
        options.setdefault("allow_abbrev", False)
        options.setdefault("formatter_class", _Help)
        super().__init__(**options)
        self.commands = {}

    def error(self, message: str) -> NoReturn:
        chosen = re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message)
        if chosen is not None:
            choices = chosen[2].replace("'", "").split(", ")
            near = difflib.get_close_matches(chosen[1], choices, n=1)
            message += f": did you mean {near[0]!r}?" if near else ""
        raise InputError(f"{message} (see {self.prog} --help)")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        found, extra = self.parse_known_args(args, namespace)
        if extra:
            command = self.commands.get(getattr(found, "command", None) or "", self)
            raise _unrecognised(extra[0].partition("=")[0], command)
        return found


def _unrecognised(word: str, command: Parser) -> InputError:
    """The error for a word that a command does not take, with the nearest option."""
    near: list[str] = []
    if word.startswith("-"):
        options = re.findall(r"(?<![\w-])--?[a-z][a-z-]*", command.format_usage())
        near = difflib.get_close_matches(word, options, n=1)
    hint = f": did you mean {near[0]}?" if near else ""
    return InputError(f"unrecognized arguments: {word}{hint} (see {command.prog} --help)")


def parser(only: str | None = None) -> Parser:
    """The parser of the whole command line, or with `only`, of that command alone.

    Some commands' options come from the library, which takes half a second to import.
    """
    top = Parser(
        prog="minialex",
        description="AlexNet from scratch: train it, evaluate it, classify images with it.",
        epilog="first run, on built-in images, in a few minutes:\n" + _example(train.EXAMPLES[0]),
    )
    top.add_argument("--version", action="version", version=f"minialex {__version__}")
    subparsers = top.add_subparsers(metavar="COMMAND", dest="command", required=True)
    for name, command in COMMANDS.items():
        summary_line = (command.__doc__ or name).splitlines()[0]  # python -OO drops docstrings
        one = subparsers.add_parser(
            name,
            help=summary_line,
            description=summary_line,
            epilog="examples:\n" + "".join(map(_example, command.EXAMPLES)),
        )
        top.commands[name] = one
        if only in (None, name):
            command.add_arguments(one)
        one.set_defaults(run=command.run)
    return top


def _example(command: str) -> str:
    """A command as shell lines, broken before options."""
    first, *options = re.split(r" (?=--)", command)
    lines = [f"  {first}"]
    for option in options:
        if len(lines[-1]) + len(option) + 3 > _WIDTH - 2:
            lines.append(f"     {option}")
        else:
            lines[-1] += f" {option}"
    return " \\\n ".join(lines) + "\n"
