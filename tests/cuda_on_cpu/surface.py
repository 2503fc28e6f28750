"""Compares the stand-in with the real CuPy: every name and every argument must exist there.

The tests show that minialex needs no more of CuPy than the stand-in has. So if the real CuPy has
all of it, minialex does not call what is not there. Nothing is called, so no device is needed.
"""

import inspect
import re
import types
from collections.abc import Callable, Iterator
from typing import Any

# what the tests use of the stand-in itself
_OWN = {"cupy.machine", "cupy.libcublas"}
# made by other calls, never by minialex itself
_MADE = {"cupy.cuda.Event", "cupy.cuda.MemoryPointer"}


def differences(ours: types.ModuleType, real: types.ModuleType) -> list[str]:
    """What `ours`, the stand-in, has and `real`, CuPy, has not; one line each."""
    return list(_compare("cupy", ours, real))


def _compare(path: str, ours: Any, real: Any) -> Iterator[str]:
    for name, value in sorted(_members(ours).items()):
        here = f"{path}.{name}"
        if here in _OWN:
            continue
        theirs = getattr(real, name, None)
        if theirs is None and not hasattr(real, name):
            yield f"{here} does not exist"
        elif isinstance(value, types.ModuleType | types.SimpleNamespace):
            yield from _compare(here, value, theirs)
        elif inspect.isclass(value):
            if not inspect.isclass(theirs) and not isinstance(theirs, types.ModuleType):
                yield f"{here} is not a class"
                continue
            called = "__init__" in vars(value) and here not in _MADE
            if called and not issubclass(value, BaseException):
                yield from _compare_calls(here, value.__init__, theirs)
            yield from _compare(here, value, theirs)
        elif callable(value):
            yield from _compare_calls(here, value, theirs)


def _members(owner: Any) -> dict[str, Any]:
    """The public names of a module, a class or a namespace, and `with` and calls of instances."""
    special = {"__enter__", "__exit__", "__call__"}
    return {
        name: value.__func__ if isinstance(value, staticmethod) else value
        for name, value in vars(owner).items()
        if not name.startswith("_") or name in special
    }


def _compare_calls(path: str, ours: Callable, real: Any) -> Iterator[str]:
    theirs = parameters(real)
    if theirs is None:
        yield f"{path} has no signature to compare with"
        return
    names = [name for name in theirs if not name.startswith("*")]
    rest = any(name.startswith("**") for name in theirs)
    wanted = [
        p
        for p in inspect.signature(ours).parameters.values()
        if p.name != "self" and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    positional = [p for p in wanted if p.kind != p.KEYWORD_ONLY]
    if len(positional) > len(names) and not any(n.startswith("*") for n in theirs):
        yield f"{path} takes {len(names)} arguments, not {len(positional)}"
    for p in wanted:  # those with a default, or keyword-only, may be passed by name
        by_name = p.kind == p.KEYWORD_ONLY or p.default is not p.empty
        if by_name and p.name not in names and not rest:
            yield f"{path} takes no argument {p.name!r}, only {', '.join(theirs) or 'none'}"


def parameters(real: Any) -> list[str] | None:
    """The parameters of a function or class, without self; from its docstring if it is compiled."""
    try:
        found = [
            {p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "") + p.name
            for p in inspect.signature(real).parameters.values()
        ]
        return [name for name in found if name != "self"]
    except (ValueError, TypeError):
        pass
    text = (getattr(real, "__doc__", None) or "").strip().split("\n")[0]
    match = re.match(r"[\w.]+\((.*)\)(?: -> .*)?$", text)
    if match is None:
        return None
    names = []
    for part in re.split(r",\s*(?![^(\[]*[)\]])", match[1]):
        word = part.split("=")[0].split(":")[0].split()
        if word and word[-1] not in ("self", "*", "/"):
            names.append(word[-1])
    return names
