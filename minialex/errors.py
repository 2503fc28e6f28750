"""The exception for a user's mistake, and suggestions for misspelt names."""

from collections.abc import Iterable


class InputError(ValueError):
    """Something the caller gave cannot be used; the message is one sentence that says what to do.

    The command line prints it without a traceback and ends with exit code 2. Every other exception
    that leaves the library is a defect of the library.
    """


def unknown(kind: str, name: object, options: Iterable[str]) -> InputError:
    """An error for `name`, which is not one of `options`: names the nearest, then all of them."""
    import difflib

    options = sorted(set(options))
    near = difflib.get_close_matches(str(name), options, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return InputError(f"unknown {kind} {name!r}: {hint}choose from {', '.join(options)}")


class TrainingError(RuntimeError):
    """Training cannot go on (a number that is not finite, say); the message is one sentence."""
