"""NVIDIA's own compiler without a GPU: CUDA C to machine code for any architecture it knows."""

import ctypes
import importlib.util
import re
import subprocess
import tempfile
from functools import cache
from pathlib import Path


@cache
def libraries() -> dict[int, ctypes.CDLL]:
    """NVRTC by major version, from the packages nvidia-cuda-nvrtc-cu12 and nvidia-cuda-nvrtc."""
    found, made = importlib.util.find_spec("nvidia"), {}
    for root in (found.submodule_search_locations or ()) if found else ():
        for path in sorted(Path(root).glob("**/*nvrtc*")):
            if path.name.startswith(("libnvrtc.so", "nvrtc64")) and "builtins" not in path.name:
                lib = ctypes.CDLL(str(path))
                lib.nvrtcGetErrorString.restype = ctypes.c_char_p
                major, minor = ctypes.c_int(), ctypes.c_int()
                lib.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
                made.setdefault(major.value, lib)
    return made


def library(major: int | None = None) -> ctypes.CDLL | None:
    """NVRTC of a major version, or the oldest installed; None if there is none."""
    found = libraries()
    return found.get(major if major is not None else min(found, default=0))


def version(compiler: int) -> tuple[int, int]:
    """Major and minor version."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    libraries()[compiler].nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    return major.value, minor.value


def architectures(major: int | None = None) -> list[int]:
    """The compute capabilities that it compiles for; 90 for 9.0."""
    lib, count = library(major), ctypes.c_int()
    assert lib is not None
    lib.nvrtcGetNumSupportedArchs(ctypes.byref(count))
    found = (ctypes.c_int * count.value)()
    lib.nvrtcGetSupportedArchs(found)
    return list(found)


def compile_source(
    source: str, architecture: int | str, options: tuple[str, ...], major: int | None = None
) -> tuple[bytes, str]:
    """-> machine code, and everything the compiler said; raises RuntimeError if it refuses.

    `architecture` is 90 for 9.0, or "90a" with its own features.
    """
    lib, program = library(major), ctypes.c_void_p()
    assert lib is not None
    code = lib.nvrtcCreateProgram(
        ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None
    )
    assert code == 0, lib.nvrtcGetErrorString(code)
    # as CuPy compiles, with the assembler's report
    flags = [*options, "-ftz=true", f"-arch=sm_{architecture}", "--ptxas-options=-v"]
    given = (ctypes.c_char_p * len(flags))(*(flag.encode() for flag in flags))
    code = lib.nvrtcCompileProgram(program, len(flags), given)
    log = _text(lib, program, lib.nvrtcGetProgramLogSize, lib.nvrtcGetProgramLog)
    if code:
        raise RuntimeError(f"{lib.nvrtcGetErrorString(code).decode()}\n{log.decode()}")
    binary = _text(lib, program, lib.nvrtcGetCUBINSize, lib.nvrtcGetCUBIN)
    lib.nvrtcDestroyProgram(ctypes.byref(program))
    return binary, log.decode()


def complaints(
    source: str,
    architecture: int | str,
    options: tuple[str, ...],
    major: int | None = None,
) -> list[str]:
    """Warnings, and kernels whose registers spill to memory."""
    binary, log = compile_source(source, architecture, options, major)
    assert binary.startswith(b"\x7fELF")
    return _wrong(log)


def complaints_of_nvcc(
    program: str, source: str, architecture: int | str, options: tuple[str, ...]
) -> list[str]:
    """The same of NVIDIA's compiler for files: pip install nvidia-cuda-nvcc nvidia-cuda-cccl."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cu"
        # after CUDA's own headers, which nvcc includes first
        path.write_text("#define __CUDACC_RTC__ 1\n" + source)
        command = [program, "-cubin", "-ftz=true", "-Xptxas", "-v", f"-arch=sm_{architecture}"]
        command += [*options, "-o", str(path.with_suffix(".cubin")), str(path)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr)
    return _wrong(done.stdout + done.stderr)


def _wrong(log: str) -> list[str]:
    lines = log.splitlines()
    said = re.compile(r"warning|performance loss|\(C75\d\d\)", re.IGNORECASE)  # C75: about wgmma
    spills = re.compile(r"([1-9]\d*) bytes spill")
    lines = [line for line in lines if "Architectures prior to" not in line]  # 7.0 still compiles
    return [line for line in lines if said.search(line) or spills.search(line)]


def to_ptx(source: str, architecture: int | str, options: tuple[str, ...]) -> str:
    """The virtual machine code of a source."""
    lib, program = library(), ctypes.c_void_p()
    assert lib is not None
    lib.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None)
    flags = [*options, "-ftz=true", f"-arch=compute_{architecture}"]
    given = (ctypes.c_char_p * len(flags))(*(flag.encode() for flag in flags))
    assert lib.nvrtcCompileProgram(program, len(flags), given) == 0
    ptx = _text(lib, program, lib.nvrtcGetPTXSize, lib.nvrtcGetPTX)
    lib.nvrtcDestroyProgram(ctypes.byref(program))
    return ptx.decode().rstrip("\0")


def _text(lib, program, size_of, read) -> bytes:
    size = ctypes.c_size_t()
    size_of(program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    read(program, buffer)
    return buffer.raw.rstrip(b"\0") if size_of is lib.nvrtcGetProgramLogSize else buffer.raw
