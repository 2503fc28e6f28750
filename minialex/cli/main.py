"""The `minialex` command: arguments in, calls out; each subcommand is a file in `commands/`.

Exit codes: 0 done; 1 a check failed or a loss was not finite; 2 something the user gave cannot be
used, told in one line; 130 and 143 ended by Ctrl-C and SIGTERM. A traceback is a defect.
"""

import argparse
import errno
import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from minialex import __version__
from minialex.cli import (
    bench,
    check,
    data,
    evaluate,
    features,
    kernels,
    neighbors,
    predict,
    prepare,
    reproduce,
    summary,
    train,
)
from minialex.errors import InputError, TrainingError

COMMANDS = {
    "data": data,
    "prepare": prepare,
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "features": features,
    "kernels": kernels,
    "neighbors": neighbors,
    "reproduce": reproduce,
    "summary": summary,
    "check": check,
    "bench": bench,
}

# What the system refuses because of what it was asked for; other OSErrors are defects.
_OF_THE_USER = {
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


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaint is one InputError; options are never abbreviated."""

    def __init__(self, **options):
        options.setdefault("allow_abbrev", False)
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(**options)

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")


def parser(only: str | None = None) -> Parser:
    """The whole command line, or with `only` the options of that command alone.

    Some commands' options come from the library, which takes half a second to import.
    """
    top = Parser(
        prog="minialex",
        description="AlexNet from scratch: train it, judge it, ask it what is in a photograph.",
        epilog="a first run, on built-in images, in minutes:\n  " + train.EXAMPLES[0],
    )
    top.add_argument("--version", action="version", version=f"minialex {__version__}")
    subparsers = top.add_subparsers(metavar="COMMAND", dest="command", required=True)
    for name, command in COMMANDS.items():
        summary_line = (command.__doc__ or name).splitlines()[0]  # python -OO drops docstrings
        one = subparsers.add_parser(
            name,
            help=summary_line,
            description=summary_line,
            epilog="examples:\n" + "".join(f"  {example}\n" for example in command.EXAMPLES),
        )
        if only in (None, name):
            command.add_arguments(one)
        one.set_defaults(run=command.run)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name no terminal can show is no error
    try:
        given = sys.argv[1:] if argv is None else list(argv)
        command = next((word for word in given if not word.startswith("-")), "")
        arguments = vars(parser(command).parse_args(given))
        del arguments["command"]
        code = arguments.pop("run")(**arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, `head` say, has seen enough
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


def _complain(sentence: str, code: int) -> int:
    print(f"minialex: error: {' '.join(sentence.split())}", file=sys.stderr)
    return code


def _sentence(error: Exception) -> str | None:
    """What went wrong in words for the user; None if the error is a defect."""
    if isinstance(error, MemoryError):
        return f"not enough memory ({error or 'no more to be had'}): use a smaller --batch-size"
    if not isinstance(error, OSError) or error.errno is None:
        return str(error)
    if error.errno not in _OF_THE_USER:
        return None
    reason = error.strerror or os.strerror(error.errno)
    return reason if error.filename is None else f"{error.filename}: {reason.lower()}"
