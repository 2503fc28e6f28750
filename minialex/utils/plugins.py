"""User plug-ins: registered in Python, by installed packages, or given as FILE.py:NAME.

A file or module is imported when the user names it in this process (`Registry.use`), and never
because a weight file or run folder refers to it: those may come from somebody else. Only the entry
points of installed packages are looked up by name alone.
"""

import hashlib
import inspect
import pkgutil
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.machinery import SourceFileLoader
from importlib.metadata import entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Generic, TypeVar

from minialex.errors import InputError, nearest, unknown
from minialex.utils.paths import expanded

T = TypeVar("T")
_NAME = re.compile(r"[\w.+-]+")


class Registry(Generic[T]):
    """The things of one kind, by name: built in, registered, and from installed packages.

    kind       what they are called in error messages
    option     the command-line option that selects one, such as --model
    built_in   {name: thing}
    make       makes a thing from what the user gave and where it came from
    """

    def __init__(
        self, kind: str, option: str, built_in: Mapping[str, T], make: Callable[[Any, str], T]
    ):
        self.kind, self.option, self.built_in, self.make = kind, option, built_in, make
        self.group = f"minialex.{kind}s" if not kind.endswith("s") else f"minialex.{kind}es"
        self.registered: dict[str, T] = {}
        self._sources: dict[str, str] = {}  # of what has no name but its file's

    def register(self, name: str, given: Any) -> None:
        """Register `given` under `name` in this process."""
        if name in self.built_in:
            raise InputError(f"the {self.kind} name {name!r} is taken: register another name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InputError(
                f"{name!r} cannot be the name of a {self.kind}: use letters, digits, '-', '_', '.'"
            )
        self.registered[name] = self.make(given, source_of(given))

    def use(self, given: Any) -> Any:
        """The name of what the user gave: a name, FILE.py:NAME, package.module:NAME, or a function.

        Imports the file or module, and registers what it defines. Other values are returned as they
        are.
        """
        if isinstance(given, str):
            if ":" not in given or given in self.built_in:
                return given
            found, source = load(given, self.option)
            name = short(given)
        elif source := source_of(given):
            found, name = given, short(source)
        else:
            return given
        self.registered[name], self._sources[name] = self.make(found, source), source
        return name

    def again(self, name: str | None) -> str:
        """The option that names the user's own code again, as " --model net.py:build"; or ""."""
        source = None if name is None else self._sources.get(name)
        return "" if source is None else f" {self.option} {shlex.quote(source)}"

    def names(self) -> tuple[str, ...]:
        """All names: the built-in ones first, then those registered or installed."""
        plugged = {point.name for point in entry_points(group=self.group)}
        more = sorted({*self.registered, *plugged} - set(self.built_in))
        return (*self.built_in, *more)

    def find(self, name: str) -> T | None:
        """The thing called `name`; None if there is none."""
        for known in (self.registered, self.built_in):
            if name in known:
                return known[name]
        for point in entry_points(group=self.group, name=name):
            return self.make(point.load(), point.value)
        return None

    def get(self, name: str) -> T:
        """The thing called `name`; InputError with the nearest name if there is none."""
        found = self.find(name)
        if found is None:
            raise self.unknown(name)
        return found

    def unknown(self, name: str) -> InputError:
        """The error for an unknown name."""
        if name.endswith(".py"):
            return _without_name(self.option, name)
        if ":" in name:
            return InputError(
                f"the {self.kind} {name!r} is code of your own, which is not run unless you name "
                f"it: give its file again, {self.option} {_where(name)}"
            )
        return unknown(self.kind, name, self.names())


def _where(name: str) -> str:
    return f"PATH/{name}" if ".py:" in name else name


def modules_with(package: ModuleType, name: str) -> list[Any]:
    """The objects called `name` in the modules of a package that have one."""
    found = [info.name for info in pkgutil.iter_modules(package.__path__)]
    modules = [import_module(f"{package.__name__}.{one}") for one in found]
    return [getattr(module, name) for module in modules if hasattr(module, name)]


def short(reference: str) -> str:
    """A reference without the folder of its file: net.py:build for /home/me/net.py:build."""
    source, _, name = reference.rpartition(":")
    file = re.split(r"[/\\]", source)[-1]
    return f"{file}:{name}"


def source_of(thing: Any) -> str:
    """Where a function or class is defined: FILE.py:NAME or package.module:NAME; "" if unknown.

    For other objects, this is where the function they wrap (`build`, `func`), or their class, is.
    """
    if not (inspect.isfunction(thing) or inspect.isclass(thing) or inspect.ismethod(thing)):
        made_by = getattr(thing, "build", None) or getattr(thing, "func", None)
        if made_by is None and not callable(thing):
            return ""
        return source_of(made_by if made_by is not None else type(thing))
    module = sys.modules.get(thing.__module__)
    file = getattr(module, "__file__", None)
    name = thing.__qualname__.replace("<locals>.", "")
    if thing.__module__.startswith(_OWN) or (thing.__module__ == "__main__" and file):
        return f"{Path(str(file)).resolve()}:{name}"
    return f"{thing.__module__}:{name}"


_OWN = "_minialex_own_"  # prefix of modules made from a user's files


def _without_name(option: str, reference: str) -> InputError:
    return InputError(f"{option} {reference}: expected FILE.py:NAME, such as net.py:build")


def load(reference: str, option: str) -> tuple[Any, str]:
    """The object that FILE.py:NAME or package.module:NAME refers to, and its full reference.

    Raises InputError or FileNotFoundError if it is not there.
    """
    source, _, name = reference.rpartition(":")
    if not source or not name.isidentifier():
        raise _without_name(option, reference)
    module = load_file(Path(source)) if source.endswith(".py") else _import(source, option)
    found = getattr(module, name, None)
    if found is None:
        own = [
            other
            for other, value in vars(module).items()
            if callable(value) and getattr(value, "__module__", None) == module.__name__
        ]
        error = unknown("name", name, own)
        raise InputError(f"{source} has no {name!r}" + (f": {error}" if own else ""))
    return found, f"{module.__file__}:{name}" if source.endswith(".py") else reference


class _AsItStands(SourceFileLoader):
    """Compiles the source each time.

    Python's cache takes a file of the same size and second for unchanged, and its folder would
    appear beside the user's file.
    """

    def get_code(self, fullname: str) -> CodeType:
        source = self.get_data(self.path)
        return self.source_to_code(source, self.path)


def load_file(path: Path) -> ModuleType:
    """Run a Python file and return it as a module; it may import modules that lie beside it."""
    path = expanded(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}: {nearest(path) or 'check the path'}")
    path = path.resolve()
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:8]
    name = f"{_OWN}{path.stem}_{digest}"
    spec = spec_from_file_location(name, path, loader=_AsItStands(name, str(path)))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[spec.name]
        raise InputError(f"{path} cannot be run: {_said(error)}") from error
    finally:
        sys.path.remove(str(path.parent))
    return module


def _import(name: str, option: str) -> ModuleType:
    try:
        return import_module(name)
    except Exception as error:
        raise InputError(f"{option} {name}: it cannot be imported: {_said(error)}") from error


def _said(error: Exception) -> str:
    """An error in a user's own code, in a few words."""
    own = [
        line
        for frame, line in traceback.walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__")).startswith(_OWN)
    ]
    line = getattr(error, "lineno", None) or (own[-1] if own else None)
    return f"{type(error).__name__}: {error}" + (f" (line {line})" if line else "")


def run(what: str, function: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """What a user's function returns; InputError with its own error if it fails."""
    try:
        return function(*arguments, **options)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{what} failed: {_said(error)}") from error
