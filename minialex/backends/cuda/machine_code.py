"""Machine code of the kernels: compiled by NVRTC for a device's architecture, and kept on disk.

It depends on the source, the options and CUDA's major version only. So it can be made on a machine
without a GPU and taken to one with a GPU, which then compiles no kernel with 32-bit indices:

    python -m minialex.backends.cuda.precompile 9.0 FOLDER      # needs CuPy, no GPU
    MINIALEX_KERNELS=FOLDER minialex train --backend cupy ...
"""

import hashlib
import os
import tempfile
import warnings
from functools import cache
from pathlib import Path

from minialex.backends.cuda.device import library
from minialex.errors import InputError
from minialex.utils import atomic

PRECOMPILED = "MINIALEX_KERNELS"  # the environment variable with a folder to look in first


def architecture(capability: tuple[int, int]) -> str:
    """The newest architecture that both a device and the compiler know, such as "sm_90".

    Raises InputError for a device that this version of CUDA no longer supports.
    """
    major, minor = capability
    known = sorted(library().cuda.nvrtc.getSupportedArchs())
    # code for 8.0 runs on 8.6, but not on 9.0
    usable = [arch for arch in known if arch // 10 == major and arch % 10 <= minor]
    if usable:
        return f"sm_{usable[-1]}"
    older = [arch for arch in known if arch < 10 * major + minor]
    if not older:
        oldest = f"{known[0] // 10}.{known[0] % 10}"
        raise InputError(
            f"CUDA {_cuda_major()} does not support this GPU of compute capability "
            f"{major}.{minor}, only {oldest} and later: install CuPy for an older CUDA, "
            f'"pip install cupy-cuda{_cuda_major() - 1}x"'
        )
    return f"compute_{older[-1]}"  # a device that the compiler does not know: the driver translates


def of(text: str, given: tuple[str, ...]) -> Path:
    """The file of a source's machine code; it is compiled if it is not on disk.

    Raises InputError if `PRECOMPILED` names no folder.
    """
    name = _name(text, given)
    if precompiled := os.environ.get(PRECOMPILED):
        folder = Path(precompiled)
        if not folder.is_dir():  # compiling everything on a rented GPU would be a costly surprise
            raise InputError(
                f"{PRECOMPILED} names {folder.absolute()}, which is not a folder: give the one "
                "that python -m minialex.backends.cuda.precompile made, or unset it"
            )
        if (folder / name).exists():
            return folder / name
    return _compile(text, given, _cache() / name)


def store(text: str, given: tuple[str, ...], folder: Path) -> Path:
    """Compile a source into a folder that may be taken to another machine."""
    return _compile(text, given, folder / _name(text, given))


@cache
def _cache() -> Path:
    """CuPy's folder of compiled kernels, or this process's own if it cannot be written to."""
    folder = Path(os.environ.get("CUPY_CACHE_DIR") or Path.home() / ".cupy" / "kernel_cache")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        warnings.warn(
            f"cannot write in {folder} ({error.strerror}), so the CUDA kernels are compiled again "
            "in each process: set CUPY_CACHE_DIR to a folder you can write to",
            stacklevel=2,
        )
        return Path(_temporary().name)


@cache
def _temporary() -> tempfile.TemporaryDirectory:
    """Removed at the end of the process."""
    return tempfile.TemporaryDirectory(prefix="minialex-kernels-")


def _cuda_major() -> int:
    return int(library().cuda.nvrtc.getVersion()[0])


def _name(text: str, given: tuple[str, ...]) -> str:
    key = "\0".join(("2", text, *given, str(_cuda_major())))  # 2: of this file's format
    return f"minialex-{hashlib.sha256(key.encode()).hexdigest()[:40]}.cubin"


def _compile(text: str, given: tuple[str, ...], path: Path) -> Path:
    if path.exists():
        return path
    binary, _ = compiled(text, given)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_bytes(path, binary)
    return path


def compiled(text: str, given: tuple[str, ...]) -> tuple[bytes, str]:
    """Machine code (PTX for "compute_" architectures), and what the compiler says about it."""
    nvrtc = library().cuda.nvrtc
    program = nvrtc.createProgram(text, "kernel.cu", (), ())
    try:
        nvrtc.compileProgram(program, (*given, "-ftz=true"))
        translated = any(option.startswith("-arch=compute_") for option in given)
        # CuPy cuts the last byte of machine code, a zero, as if it were text; files need it
        binary = nvrtc.getPTX(program) if translated else nvrtc.getCUBIN(program) + b"\0"
        said = nvrtc.getProgramLog(program)
    except nvrtc.NVRTCError as error:
        raise RuntimeError(f"{error}: {nvrtc.getProgramLog(program)}") from None
    finally:
        nvrtc.destroyProgram(program)
    return binary if isinstance(binary, bytes) else binary.encode(), said
