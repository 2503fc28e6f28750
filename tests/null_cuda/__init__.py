"""CUDA's libraries on the host's memory, for the real CuPy on a machine without a GPU.

`install()` builds them and loads them into this process before CuPy is used. The stand-in
(`cuda_on_cpu`) replaces CuPy; here the real CuPy runs, with its own pools, streams, graphs and
argument checks, and what CUDA would refuse is refused. Kernels run as in the stand-in, compiled by
the system's C++ compiler; with the real NVRTC they are compiled for a GPU and only counted.
"""

import ctypes
import hashlib
import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cuda_on_cpu import compiler

from null_cuda import patch

# the libraries that CuPy loads, and the source of each
_LIBRARIES = {
    "libcuda.so.1": ("runtime.cpp", "driver.cpp"),
    "libnvrtc.so.13": (),  # a name for the first
    "libcublasLt.so.13": (),
    "libcublas.so.13": ("cublas.cpp",),
}
_REST = "rest.cpp"
# fmt: off
_OURS = (
    "-DSTORAGE_", "-DINDEX=", "-DTILE_N=", "-DVECTOR=", "-DDIVIDES", "-DWARPGROUPS", "-DSLICES=",
    "-DINPUT_GRADIENT", "-fmad=",
)
# fmt: on
_kept: list[Any] = []  # libraries and callbacks that must outlive the process's use of them


def why_not() -> str | None:
    """A reason why the real CuPy cannot run here without a GPU, or None."""
    if sys.platform != "linux":
        return "the null CUDA needs Linux"
    if compiler.available() is None:
        return "the null CUDA needs a C++ compiler"
    if find_spec("cupy") is None:
        return "CuPy is not installed: pip install cupy-cuda13x"
    return patch.why_not()


def install(real_nvrtc: bool = False) -> ctypes.CDLL:
    """Make the real CuPy find the null CUDA; -> the library with the tests' own functions.

    With `real_nvrtc`, kernels are compiled by NVIDIA's compiler and not run.
    """
    if _kept:
        return _kept[0]
    folder = _build()
    # "machine code" is the path of a compiled library and is kept beside it
    how = b"".join(Path(file).read_bytes() for file in (__file__, str(compiler.__file__)))
    name = f"null-cuda-{hashlib.sha256(how).hexdigest()[:16]}"  # others are compiled otherwise
    cache = folder / "real" if real_nvrtc else compiler.folder() / name
    os.environ["CUPY_CACHE_DIR"] = str(cache)
    for name in _LIBRARIES:
        if not (real_nvrtc and "nvrtc" in name):
            _kept.append(ctypes.CDLL(str(folder / name), ctypes.RTLD_GLOBAL))
    library = _kept[0]
    callback = ctypes.CFUNCTYPE(
        *(ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int)
    )(_compile)
    _kept.append(callback)
    library.null_set_compiler(callback)
    for name in ("null_launches", "null_graph_launches", "null_refusals"):
        getattr(library, name).restype = ctypes.c_long
    library.null_peak.restype = ctypes.c_size_t
    patch.redirect(library)
    return library


def _build() -> Path:
    """The folder of the compiled libraries; they are compiled once for each source and command."""
    here = Path(__file__).parent
    headers = (here / "state.h", here.parent / "cuda_on_cpu" / "tensor_map.h")
    texts = [source.read_text() for source in (*sorted(here.glob("*.cpp")), *headers)]
    texts += [repr(_command(name, Path())) for name in _LIBRARIES] + [_rest()]
    digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"minialex-null-cuda-{os.getuid()}" / digest
    folder.mkdir(parents=True, exist_ok=True)
    with compiler.alone(folder / "build"):
        (folder / _REST).write_text(_rest())
        for name in _LIBRARIES:
            if not (folder / name).exists():
                _build_library(folder, name)
    return folder


def _command(name: str, folder: Path) -> list[str]:
    """The compiler's command for a library."""
    first, here = next(iter(_LIBRARIES)), Path(__file__).parent
    files = [str(here / file) for file in _LIBRARIES[name]]
    if "cublas.cpp" in _LIBRARIES[name]:
        files.append(str(folder / _REST))
    command = [str(compiler.available()), "-std=c++17", "-O2", "-ftree-vectorize", "-shared"]
    command += ["-fPIC", "-w", "-x", "c++", *(files or ["/dev/null"]), "-x", "none"]
    command += [f"-Wl,-soname,{name}", f"-Wl,--version-script={folder / name}.map"]
    if name != first:
        command += ["-Wl,--no-as-needed", str(folder / first)]
    return [*command, "-ldl"]


def _rest() -> str:
    """What CuPy needs of cuBLAS to be loaded, and cublas.cpp does not have."""
    own = (Path(__file__).parent / "cublas.cpp").read_text()
    missing = [name for name in patch.needed("cublas") if f" {name}(" not in own]
    return "\n".join(f'extern "C" int {name}() {{ return 15; }}' for name in missing)


def _build_library(folder: Path, name: str) -> None:
    # CuPy asks for the symbols of cuBLAS by version
    (folder / f"{name}.map").write_text(f"{name} {{ global: *; }};\n")
    part = folder / f"{name}.part"
    command = [*_command(name, folder), "-o", str(part)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the C++ compiler refuses the null CUDA:\n{done.stderr[:4000]}")
    os.replace(part, folder / name)


def _compile(source: bytes, options: bytes, out: int, size: int) -> int:
    """For the null NVRTC: compile like the stand-in; 0 and the path, or 1 and what is wrong."""
    try:
        flags = [flag for flag in options.decode().splitlines() if flag.startswith(_OURS)]
        text = str(compiler.built(source.decode(), tuple(flags)))
        failed = 0
    except Exception as error:  # it must not unwind through C++
        text, failed = f"{type(error).__name__}: {error}", 1
    raw = text.encode()[: size - 1] + b"\0"
    ctypes.memmove(out, raw, len(raw))
    return failed
