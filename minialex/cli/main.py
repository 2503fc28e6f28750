"""The `minialex` command: the parser, exit codes, and errors in one line.

Exit codes: 0 success; 1 a check failed, some of several images could not be read, or the loss was
NaN or infinite; 2 bad input; 130, 143, 138 and 129 stopped by Ctrl-C, SIGTERM, SIGUSR1 and SIGHUP.
A traceback is a bug.
"""

import argparse
import difflib
import errno
import io
import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from itertools import pairwise
from typing import Any, NoReturn

from minialex import __version__
from minialex.cli import (
    bench,
    check,
    data,
    evaluate,
    export,
    features,
    import_weights,
    kernels,
    neighbors,
    predict,
    prepare,
    report,
    reproduce,
    summary,
    train,
)
from minialex.cli.common import with_device_config, with_own_model
from minialex.errors import InputError, TrainingError, unknown
from minialex.utils.ctrl_c import never_ignored

COMMANDS = {
    "data": data,
    "prepare": prepare,
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "features": features,
    "kernels": kernels,
    "neighbors": neighbors,
    "report": report,
    "export": export,
    "import": import_weights,
    "reproduce": reproduce,
    "summary": summary,
    "check": check,
    "bench": bench,
}

# System errors that a user can cause and cure; any other OSError is a bug.
_USER_ERRORS = {
    errno.EACCES,
    errno.EDQUOT if hasattr(errno, "EDQUOT") else errno.ENOSPC,
    errno.EEXIST,
    errno.EFBIG,
    errno.EIO,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}


_WIDTH = 80  # of the help at most: long lines are hard to read


class _Help(argparse.RawDescriptionHelpFormatter):
    """Help in lines that fit the terminal, and 80 columns."""

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
    """An error for a word that a command does not take, with the option that is nearest."""
    near: list[str] = []
    if word.startswith("-"):
        options = re.findall(r"(?<![\w-])--?[a-z][a-z-]*", command.format_usage())
        near = difflib.get_close_matches(word, options, n=1)
    hint = f": did you mean {near[0]}?" if near else ""
    return InputError(f"unrecognized arguments: {word}{hint} (see {command.prog} --help)")


def parser(only: str | None = None) -> Parser:
    """The whole command line, or with `only` the options of that command alone.

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
    """A command in lines of a shell, broken before options."""
    first, *options = re.split(r" (?=--)", command)
    lines = [f"  {first}"]
    for option in options:
        if len(lines[-1]) + len(option) + 3 > _WIDTH - 2:
            lines.append(f"     {option}")
        else:
            lines[-1] += f" {option}"
    return " \\\n ".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    with _streams(), never_ignored():
        return _main(argv)


@contextmanager
def _streams() -> Iterator[None]:
    """Output that goes nowhere where there is none: under pythonw, or as some services start."""
    with ExitStack() as stack:
        for name, redirect in (("stdout", redirect_stdout), ("stderr", redirect_stderr)):
            if getattr(sys, name) is None:
                stack.enter_context(redirect(stack.enter_context(open(os.devnull, "w"))))
        yield


def _main(argv: Sequence[str] | None) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # for file names that are not valid text
    try:
        given = sys.argv[1:] if argv is None else list(argv)
        _refuse_empty(given)
        command = next((word for word in given if not word.startswith("-")), "")
        if given[:1] == [command] and command not in COMMANDS:
            raise unknown("command", command, COMMANDS)
        arguments = vars(parser(command).parse_args(given))
        del arguments["command"]
        code = arguments.pop("run")(**with_device_config(with_own_model(arguments)))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, e.g. `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    except TrainingError as error:
        return _complain(str(error), 1)
    except (InputError, OSError, MemoryError) as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        return _complain(sentence, 2)
    return code or 0


def _refuse_empty(words: Sequence[str]) -> None:
    """An empty word would mean the current folder to some options, and nothing to others."""
    for before, word in pairwise(["minialex", *words]):
        if word == "" or (word.startswith("--") and word.endswith("=")):
            raise InputError(
                f"the argument {word or 'after ' + before} is empty: is a variable of the shell "
                "not set?"
            )


def _complain(sentence: str, code: int) -> int:
    print(f"minialex: error: {' '.join(sentence.split())}", file=sys.stderr)
    return code


def _sentence(error: Exception) -> str | None:
    """What went wrong, in words for the user; None if the error is a bug."""
    if isinstance(error, MemoryError):
        return f"not enough memory ({error or 'allocation failed'}): use a smaller --batch-size"
    if not isinstance(error, OSError) or error.errno is None:
        return str(error)
    if error.errno not in _USER_ERRORS:
        return None
    reason = error.strerror or os.strerror(error.errno)
    return reason if error.filename is None else f"{error.filename}: {reason.lower()}"
