"""Compiled functions are cached on disk if possible."""

import errno
import importlib
import os
import subprocess
import sys

import pytest
from numba.core import caching

from minialex import backends
from minialex.backends.numba import convolution, winograd_panels
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


def test_without_a_writable_cache_it_compiles_each_time(monkeypatch):
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


def double(x):
    return 2 * x


@pytest.mark.parametrize("method", ["save", "load"])
def test_a_failing_cache_does_not_end_the_work(monkeypatch, tmp_path, method):
    """Numba itself lets the error out: of a full disk, or of an unreadable folder."""
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(caching.IndexDataCacheFile, method, full)
    assert jit.compiled(double)(3) == 6


def test_a_damaged_cache_is_rebuilt(monkeypatch, tmp_path):
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))
    assert jit.compiled(double)(3) == 6
    [index] = tmp_path.rglob("*double*.nbi")
    index.write_bytes(index.read_bytes()[:-9])
    assert jit.compiled(double)(3) == 6
    again = jit.compiled(double)
    assert again(3) == 6
    assert sum(again.stats.cache_hits.values()) == 1


def test_a_change_in_another_file_of_the_folder_is_compiled(monkeypatch, tmp_path):
    """Numba itself would go on with the old factor."""
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path / "cache"))
    folder = tmp_path / "code"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    (folder / "kernel_of_test.py").write_text(
        "from factor_of_test import FACTOR\ndef times(x):\n    return FACTOR * x\n"
    )

    def result(factor):
        (folder / "factor_of_test.py").write_text(f"FACTOR = {factor}\n")
        for name in ("factor_of_test", "kernel_of_test"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.invalidate_caches()
        jit._sources.cache_clear()  # as in a new process
        compiled = jit.compiled(importlib.import_module("kernel_of_test").times)
        return compiled(3), sum(compiled.stats.cache_hits.values())

    assert [result(2), result(2), result(10)] == [(6, 0), (6, 1), (30, 0)]


def test_compilation_is_announced(monkeypatch):
    b = backends.get("numba")
    monkeypatch.setattr("minialex.backends.numba.backend.is_cached", lambda _: False)
    assert "once" in b.remarks([None])[0]
    monkeypatch.setattr(jit, "_LEAST_FREE", 1 << 62)  # the disk is full
    assert "at every start" in b.remarks([None])[0]


def test_who_only_predicts_is_told_once_that_kernels_are_compiled(monkeypatch):
    """One image uses other kernels than training."""
    b = backends.get("numba")
    name = "minialex.backends.numba.backend.is_cached"
    for cached in (convolution.forward, winograd_panels.forward):
        monkeypatch.setattr(name, lambda kernel, cached=cached: kernel is cached)
        assert b.remarks([b.device]) == []
