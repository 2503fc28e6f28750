"""The exception for a user's mistake, and suggestions for misspelt names."""

from collections.abc import Iterable
from pathlib import Path

_LONGEST = 300  # characters of another program's message


class InputError(ValueError):
    """Invalid input from the caller; the message is one sentence that says what to do.

    The command line prints it without a traceback and exits with code 2. Any other exception that
    escapes the library is a bug.
    """


def unknown(kind: str, name: object, options: Iterable[str]) -> InputError:
    """An error for a `name` not in `options`: gives the closest match and the full list."""
    import difflib

    options = sorted(set(options))
    near = difflib.get_close_matches(str(name), options, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    known = f"choose from {', '.join(options)}" if options else f"no {kind} is known by name"
    return InputError(f"unknown {kind} {name!r}: {hint}{known}")


def nearest(path: Path, names: Iterable[str] = ()) -> str:
    """Asks whether a file or folder similar to `path`, or one of `names`, is meant; else ""."""
    import difflib

    while path.parent != path and not path.parent.is_dir():
        path = path.parent
    try:
        siblings = [one.name for one in path.parent.iterdir() if one.name != path.name]
    except OSError:
        siblings = []
    near = difflib.get_close_matches(path.name, [*names, *siblings], n=1)
    return f"did you mean {str(path.parent / near[0])!r}?" if near else ""


def reason(error: BaseException) -> str:
    """Another program's message as a part of a sentence: on one line, and not too long."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


class TrainingError(RuntimeError):
    """Training cannot continue (a NaN loss, for example); the message is one sentence."""
