"""Compiled functions are cached on disk where that is possible."""

import os
import subprocess
import sys

from minialex.utils import jit


def test_a_second_start_does_not_compile(tmp_path):
    code = """
import numpy as np
from minialex.backends.numba.activations import relu
from minialex.utils import jit
cached = jit.is_cached(relu)
x = np.ones(5, np.float32)
relu(x, x)
print(cached, jit.is_cached(relu), end=" ")
print(sum(relu.stats.cache_hits.values()), sum(relu.stats.cache_misses.values()))
"""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    for wanted in ("False True 0 1\n", "True True 1 0\n"):
        ended = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment
        )
        assert ended.stdout == wanted, ended.stderr


def test_where_nothing_can_be_kept_it_is_compiled_each_time(monkeypatch):
    import numba

    asked = []

    def njit(**options):
        asked.append(options)
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    monkeypatch.setattr(numba, "njit", njit)
    assert jit.threaded(abs) is abs
    assert [options.get("cache") for options in asked] == [True, None]
    assert asked[1]["parallel"]
