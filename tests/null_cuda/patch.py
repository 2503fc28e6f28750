"""CuPy's wheels contain CUDA's runtime: its functions are redirected to the null CUDA in memory.

Afterwards each function of the runtime that the null CUDA has too starts with a jump there. The
others look for a driver, do not find one, and fail.
"""

import ctypes
import mmap
import struct
from importlib.util import find_spec
from pathlib import Path

_FUNCTION, _SYMBOLS, _DYNAMIC = 2, 2, 11  # STT_FUNC, SHT_SYMTAB, SHT_DYNSYM
_PAGE = mmap.PAGESIZE


def _extension(name: str) -> Path | None:
    """One of CuPy's modules with its own bindings, such as "api/runtime"."""
    found = find_spec("cupy_backends")
    for root in (found.submodule_search_locations or ()) if found else ():
        for path in Path(root).glob(f"cuda/{name}.*.so"):
            return path
    return None


def why_not() -> str | None:
    """A reason why the functions cannot be redirected, or None."""
    path = _extension("api/runtime")
    if path is None:
        return "CuPy has no module cupy_backends.cuda.api.runtime"
    if not any(name == "cudaMalloc" for name, _ in _functions(path)):
        return "this CuPy does not contain CUDA's runtime by name"
    return None


def needed(prefix: str) -> list[str]:
    """The functions that CuPy's module "libs/PREFIX" needs to be loaded."""
    path = _extension(f"libs/{prefix}")
    names = _symbols(path, _DYNAMIC) if path else []
    return sorted({name for name, value, _ in names if value == 0 and name.startswith(prefix)})


def _symbols(path: Path, wanted: int) -> list[tuple[str, int, int]]:
    """(name, offset, type) of the symbols in one kind of table of a shared library of 64 bits."""
    data = path.read_bytes()
    [sections] = struct.unpack_from("<Q", data, 40)
    size, count = struct.unpack_from("<HH", data, 58)
    headers = [struct.unpack_from("<IIQQQQIIQQ", data, sections + i * size) for i in range(count)]
    found = []
    for _, kind, _, _, start, length, link, *_ in headers:
        if kind != wanted:
            continue
        names = headers[link][4]
        for at in range(start, start + length, 24):
            name, info, _, _, value, _ = struct.unpack_from("<IBBHQQ", data, at)
            end = data.index(b"\0", names + name)
            found.append((data[names + name : end].decode(), value, info & 15))
    return found


def _functions(path: Path) -> list[tuple[str, int]]:
    return [(name, at) for name, at, kind in _symbols(path, _SYMBOLS) if kind == _FUNCTION]


def redirect(library: ctypes.CDLL) -> None:
    """Let every function of CuPy's runtime that `library` has too continue there."""
    path = _extension("api/runtime")
    assert path is not None
    functions = _functions(path)
    module = ctypes.CDLL(str(path))  # the same as Python will import
    entry, at = next(f for f in functions if f[0].startswith("PyInit"))
    base = _address(module[entry]) - at
    protect = ctypes.CDLL(None).mprotect
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for name, offset in functions:
        if not name.startswith("cuda"):
            continue
        try:
            target = _address(library[name])
        except AttributeError:
            continue
        start = base + offset
        page = start - start % _PAGE
        everything = 7  # read, write, execute
        if protect(page, 2 * _PAGE, everything):
            raise OSError(f"{path} cannot be changed in memory")
        jump = b"\x48\xb8" + struct.pack("<Q", target) + b"\xff\xe0"  # mov rax, target; jmp rax
        ctypes.memmove(start, jump, len(jump))


def _address(function: ctypes._CFuncPtr) -> int:  # type: ignore[name-defined]
    return ctypes.cast(function, ctypes.c_void_p).value or 0
