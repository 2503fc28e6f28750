"""Compiles .cu files to shared libraries with the system's C++ compiler, and launches kernels."""

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np

try:
    import fcntl
except ImportError:  # Windows, where the stand-in does not run
    fcntl = None

_KERNEL = re.compile(
    r'extern "C" __global__ void\s+(?:__launch_bounds__\([\w, ]+\)\s+)?(\w+)\(([^)]*)\)'
)
_BARRIER = re.compile(r"__sync|__shfl")
_DYNAMIC = re.compile(r"extern __shared__ (\w+) (\w+)\[\];")
_SHARED = 227 * 1024
_FAILURES = {
    1: "threads returned while others wait in __syncthreads",
    2: "part of a warp waits at a warp barrier, part at a block barrier",
    3: "threads wait at different barriers",
    4: "threads wait for a phase of an mbarrier that never ends",
    5: "all threads returned while boxes were being copied",
    6: "an mbarrier is used before it is initialised",
    7: "more threads arrive at an mbarrier than it was initialised for",
    8: "a box without a tensor map of its rank, or to an address that is not a multiple of 128",
}


def available() -> str | None:
    """The C++ compiler, or None."""
    return shutil.which("g++") or shutil.which("c++")


def folder() -> Path:
    """The cache of compiled libraries for the next run of the tests."""
    found = Path(tempfile.gettempdir()) / f"minialex-cuda-on-cpu-{os.getuid()}"
    found.mkdir(exist_ok=True)
    return found


def translate(source: str) -> str:
    """CUDA C to C++: one entry point per kernel, with arguments behind pointers."""
    barriers = bool(_BARRIER.search(source))
    stubs = []
    for name, listed in _KERNEL.findall(source):
        types = [re.sub(r"\b__restrict__\b|\w+$", "", p.strip()).strip() for p in listed.split(",")]
        held = "".join(f"{kind} a{i} = *({kind}*)a[{i}]; " for i, kind in enumerate(types))
        call = f"{name}({', '.join(f'a{i}' for i in range(len(types)))});"
        if _waits(source, name):
            stub = f"(void** a) {{ {held}{call} }}"
        else:
            stub = "(const dim3_t* thread, const dim3_t* end, void** a) { "
            stub += f"{held}for (; thread != end; ++thread) {{ threadIdx = *thread; {call} }} }}"
        sizes = "".join(f"sizeof({kind}), " for kind in types)
        stubs.append(
            f'extern "C" const unsigned sizes_{name}[] = {{ {sizes}0 }};\n'
            f"static void run_{name}{stub}\n"
            f'extern "C" int launch_{name}'
            "(const unsigned* g, const unsigned* b, uint64_t seed, void** a) "
            f"{{ return fibers::launch(g, b, seed, run_{name}, a); }}"
        )
    shared = {name: kind for kind, name in _DYNAMIC.findall(source)}
    source = _DYNAMIC.sub("", source).replace('extern "C" __global__', "__global__")
    head, _, body = source.partition('#line 1 "number.cuh"')
    types, _, kernels = body.partition("#line 1")
    # shared memory of the running block, NaN until a kernel writes it
    arrays = "".join(
        f"static {kind} {name}[{_SHARED} / sizeof({kind})];\n"
        f'extern "C" void fill_{name}(int byte) {{ memset({name}, byte, sizeof {name}); }}\n'
        for name, kind in shared.items()
    )
    assert barriers or not shared
    # in a namespace without a name: the loader would make one of shared arrays in templates that
    # are called alike in two libraries, though their sizes differ
    parts = ['#include "cuda.h"', head, "namespace {", types, "}", arrays]
    parts += ["namespace {", f"#line 1{kernels}", "}", "#line 1", *stubs]
    return "\n".join(parts)


def _waits(source: str, kernel: str) -> bool:
    """Whether a kernel's text, or a function it may call, has a barrier."""
    start = at = source.index("{", source.index(f" {kernel}("))
    depth = 0
    while depth or at == start:
        depth += {"{": 1, "}": -1}.get(source[at], 0)
        at += 1
    text = source[start:at]
    if _BARRIER.search(text):
        return True
    helpers = re.findall(r"__device__ \w+ (\w+)\([^)]*\) \{(.*?)\n\}", source, re.S)
    waiting = {name for name, body in helpers if _BARRIER.search(body)}
    while True:  # functions that call functions with barriers
        more = {n for n, body in helpers if any(f"{w}(" in body for w in waiting)} - waiting
        if not more:
            break
        waiting |= more
    return any(f"{name}(" in text for name in waiting)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Wait if another process is compiling the same source: two would only take longer."""
    with path.with_suffix(".lock").open("w") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:20]


def _build(name: str, command: list[str], text: str) -> Path:
    """The output of a compiler's command for a source, in `folder`; it is compiled once."""
    path = folder() / name
    with alone(path):
        if not path.exists():
            part = path.with_suffix(f".{os.getpid()}.part")
            done = subprocess.run(
                [*command, "-x", "c++", "-", "-o", str(part)],
                input=text.encode(),
                capture_output=True,
            )
            if done.returncode:
                message = done.stderr.decode()[:4000]
                raise RuntimeError(f"the C++ compiler refuses a kernel:\n{message}")
            os.replace(part, path)
    return path


@cache
def library(source: str, flags: tuple[str, ...]) -> ctypes.PyDLL:
    """The compiled library of a source, as a PyDLL: a launch keeps the GIL and runs alone."""
    return ctypes.PyDLL(str(built(source, flags)))


def built(source: str, flags: tuple[str, ...]) -> Path:
    """The file of the compiled library of a source."""
    compiler = available()
    assert compiler is not None
    here = Path(__file__).parent
    header, fibers = (here / name for name in ("cuda.h", "fibers.cpp"))
    extra = tuple(os.environ.get("MINIALEX_TEST_CXXFLAGS", "").split())
    command = [
        *(compiler, "-std=c++17", "-fPIC", "-w", *_contraction(flags), f"-I{here}"),
        # jumps between stacks are what fibers do
        *("-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=0"),
    ]
    every = [*command, "-O2", *extra, "-c"]
    text = fibers.read_text()
    included = header.read_text() + (here / "tensor_map.h").read_text()
    common = _build(f"{_digest(included, text, *every)}.o", every, text)
    # -O1: most of a first run's time is compilation, and little is gained from more
    command += ["-O1", *extra, "-shared", *(flag for flag in flags if flag.startswith("-D"))]
    if "-DWARPGROUPS" in flags:
        command += ["-include", "vector"]  # wgmma.cuh has queues; few kernels need them
    text = translate(source)
    name = f"{_digest(text, common.name, *command)}.so"
    return _build(name, [*command, str(common)], text)


def _contraction(flags: tuple[str, ...]) -> tuple[str, ...]:
    """As NVRTC, products are fused with sums, unless it is told not to, or this CPU cannot."""
    if "-fmad=false" in flags or not _has_fma():
        return ("-ffp-contract=off",)
    return ("-ffp-contract=fast", "-mfma", "-fexpensive-optimizations")


@cache
def _has_fma() -> bool:
    about = Path("/proc/cpuinfo")
    return about.exists() and "fma" in about.read_text(encoding="utf-8", errors="replace").split()


def driver() -> ctypes.CDLL:
    """The driver's function that makes tensor maps."""
    compiler, header = available(), Path(__file__).with_name("tensor_map.h")
    assert compiler is not None
    # inline functions are compiled only where they are used
    text = f'#include "{header}"\nvoid* used = (void*)cuTensorMapEncodeTiled;\n'
    command = [compiler, "-std=c++17", "-fPIC", "-O1", "-shared"]
    name = f"{_digest(header.read_text(), text, *command)}.so"
    return ctypes.CDLL(str(_build(name, command, text)))


def run(lib: ctypes.PyDLL, name: str, grid, block, values: list, seed: int) -> None:
    """Launch a kernel; `values` are NumPy scalars, structures of size one, or addresses (int)."""
    held = [
        np.array([v], np.uint64) if isinstance(v, int) else np.atleast_1d(np.asarray(v))
        for v in values
    ]
    pointers = (ctypes.c_void_p * len(held))(*(v.ctypes.data for v in held))
    three = ctypes.c_uint * 3
    # like CuPy, where no extent is below 1
    grid, block = (three(*(max(1, e) for e in (*shape, 1, 1)[:3])) for shape in (grid, block))
    launch = getattr(lib, f"launch_{name}")
    launch.argtypes = [three, three, ctypes.c_uint64, type(pointers)]
    failure = launch(grid, block, seed, pointers)
    if failure:
        raise RuntimeError(f"{name}: {_FAILURES[failure]}")
