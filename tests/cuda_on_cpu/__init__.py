"""CUDA without a GPU: a stand-in `cupy` that runs the very same .cu files on the CPU.

`install()` puts it where `import cupy` finds it. `machine` simulates the devices, their memory, and
how late and in which order their streams run.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from cuda_on_cpu import compiler, fake_cupy
from cuda_on_cpu.machine import Machine
from minialex.backends.cuda import cublas, tensor_map

machine = Machine()
OPEN_CUBLAS = cublas._open  # the real one


def install() -> None:
    """Make `import cupy`, and lookups of CUDA's libraries, find the stand-in; once is enough."""
    if installed():
        return
    sys.modules["cupy"] = module = fake_cupy.build(machine)
    cublas._open = lambda: module.libcublas
    tensor_map._open = compiler.driver
    os.environ["CUPY_CACHE_DIR"] = str(compiler.folder())


def installed() -> bool:
    """Whether `import cupy` finds the stand-in."""
    return hasattr(sys.modules.get("cupy"), "machine")


@contextmanager
def dry_run() -> Iterator[None]:
    """Count memory and copies, but compute nothing."""
    machine.drain()
    machine.dry = True
    try:
        yield
    finally:
        machine.drain()
        machine.dry = False


def why_not() -> str | None:
    """A reason why the stand-in cannot run here, or None."""
    if sys.platform == "win32":
        return "the stand-in for CUDA needs a system with ucontext"
    if compiler.available() is None:
        return "the stand-in for CUDA needs a C++ compiler"
    return None
