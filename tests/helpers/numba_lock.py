"""Workers of pytest-xdist share compiled functions: while one compiles a function, others wait.

Otherwise each would compile nearly everything, which takes longer than most tests.
"""

import hashlib
import os
import tempfile
from pathlib import Path

from cuda_on_cpu.compiler import alone
from numba.core.compiler_lock import global_compiler_lock
from numba.core.dispatcher import Dispatcher


def install() -> None:
    """Let each function of minialex be compiled in one worker at a time."""
    folder = Path(tempfile.gettempdir()) / f"minialex-numba-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    plain, held = Dispatcher.compile, set()

    def compile(self, sig):
        name = f"{self.py_func.__module__}.{self.py_func.__qualname__}"
        if not name.startswith("minialex.") or name in held:
            return plain(self, sig)
        file = folder / hashlib.sha256(name.encode()).hexdigest()[:20]
        # Numba's own lock first: its holder may call a function that another thread waits for
        with global_compiler_lock, alone(file):
            held.add(name)
            try:
                return plain(self, sig)  # this looks into the disk cache first
            finally:
                held.discard(name)

    Dispatcher.compile = compile
