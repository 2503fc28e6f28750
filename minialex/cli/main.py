"""The `minialex` command: exit codes, and errors in one line.

Exit codes: 0 success; 1 a check failed, some of several images could not be read, or the loss was
NaN or infinite; 2 bad input; 130, 143, 138 and 129 stopped by Ctrl-C, SIGTERM, SIGUSR1 and SIGHUP.
A traceback is a bug.

Slow imports happen only after Ctrl-C is handled.
"""

import errno
import io
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from itertools import pairwise
from typing import Any

from minialex.errors import InputError, TrainingError, unknown
from minialex.utils.ctrl_c import never_ignored
from minialex.utils.launcher import launched_as, require_one_process

# System errors that a user can cause and fix; any other OSError is a bug.
_USER_ERRORS = {
    errno.EACCES,
    errno.EDQUOT if hasattr(errno, "EDQUOT") else errno.ENOSPC,
    errno.EEXIST,
    errno.EFBIG,
    errno.EIO,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.ENXIO,
    errno.EPERM,
    errno.EROFS,
}

_SHARED = {"train": None, "bench": "ranks"}  # {command: with this option} for several processes
_OTHERS_FIRST = 3.0  # seconds in which the process that speaks has spoken


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    with _streams(), never_ignored():
        try:
            return _main(argv)
        except KeyboardInterrupt:
            return _complain("interrupted", 130)


@contextmanager
def _streams() -> Iterator[None]:
    """Discard output if there are no streams: under pythonw, or in some services."""
    with ExitStack() as stack:
        for name, redirect in (("stdout", redirect_stdout), ("stderr", redirect_stderr)):
            if getattr(sys, name) is None:
                stack.enter_context(redirect(stack.enter_context(open(os.devnull, "w"))))
        yield


def _main(argv: Sequence[str] | None) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # for file names that are not valid text
    from minialex.cli.common import with_device_config, with_own_model
    from minialex.cli.parser import COMMANDS, parser
    from minialex.cli.spelling import in_options, option_names

    spelt: dict[str, str] = {}
    try:
        given = sys.argv[1:] if argv is None else list(argv)
        _refuse_empty(given)
        command = next((word for word in given if not word.startswith("-")), "")
        if given[:1] == [command] and command not in COMMANDS:
            raise unknown("command", command, COMMANDS)
        top = parser(command)
        arguments = vars(top.parse_args(given))
        command = arguments.pop("command")
        if not _is_shared(command, arguments):
            require_one_process(f"minialex {command}")
        spelt = option_names(top.commands[command])
        code = arguments.pop("run")(**with_device_config(with_own_model(arguments)))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, e.g. `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except TrainingError as error:
        return _complain(in_options(str(error), spelt), 1, error)
    except (InputError, OSError, MemoryError) as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        return _complain(in_options(sentence, spelt), 2, error)
    return code or 0


def _is_shared(command: str, arguments: Mapping[str, Any]) -> bool:
    """Whether several processes work on this command together."""
    if command not in _SHARED:
        return False
    option = _SHARED[command]
    return option is None or arguments[option] is not None


def _refuse_empty(words: Sequence[str]) -> None:
    """Raise InputError for an empty word: some options would take it for the current folder."""
    for before, word in pairwise(["minialex", *words]):
        if word == "" or (word.startswith("--") and word.endswith("=")):
            raise InputError(
                f"the argument {word or 'after ' + before} is empty: is a shell variable not set?"
            )


def _complain(sentence: str, code: int, error: Exception | None = None) -> int:
    """Print an error, in one of the processes that mpirun started: the first, or as they agreed."""
    if getattr(error, "speaks", launched_as()[1] == 0):
        print(f"minialex: error: {' '.join(sentence.split())}", file=sys.stderr)
    else:
        time.sleep(_OTHERS_FIRST)  # mpirun kills all as soon as one has ended
    return code


def _sentence(error: Exception) -> str | None:
    """What went wrong, in a sentence for the user; None if the error is a bug."""
    if isinstance(error, MemoryError):
        return f"not enough memory ({error or 'allocation failed'}): use a smaller --batch-size"
    if not isinstance(error, OSError) or error.errno is None:
        return str(error)
    if error.errno not in _USER_ERRORS:
        return None
    reason = error.strerror or os.strerror(error.errno)
    return reason if error.filename is None else f"{error.filename}: {reason.lower()}"
