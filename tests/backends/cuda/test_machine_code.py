"""Machine code of the kernels: for which architecture, and made on another machine."""

import os
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from minialex import backends
from minialex.backends.cuda import kernels, machine_code, precompile
from minialex.errors import InputError

pytestmark = pytest.mark.standin


@pytest.mark.parametrize(
    ("capability", "known", "wanted"),
    [
        ((9, 0), [75, 80, 90, 100], "sm_90"),
        ((8, 9), [75, 80, 86, 90], "sm_86"),
        ((8, 0), [75, 80, 86, 90], "sm_80"),
        ((12, 1), [75, 90, 120], "sm_120"),
        ((13, 0), [75, 90, 120], "compute_120"),
        ((11, 0), [75, 90, 120], "compute_90"),  # what is newer than the device does not run on it
    ],
)
def test_the_architecture_for_a_device(monkeypatch, capability, known, wanted):
    set_up(monkeypatch, capability, known)
    assert machine_code.architecture(capability) == wanted


def test_a_gpu_that_cuda_no_longer_supports(monkeypatch):
    """CUDA 13 compiles for 7.5 and later."""
    set_up(monkeypatch, (7, 0), [75, 80, 90])
    with pytest.raises(InputError, match=r"of compute capability 7\.0, only 7\.5 .*cupy-cuda12x"):
        machine_code.architecture((7, 0))
    for cached in (kernels._module, kernels._function):
        cached.cache_clear()
    b = backends.get("cupy")
    with pytest.raises(InputError, match="CUDA 13 does not support this GPU"):
        b.relu(b.asarray(np.ones(3)))


def set_up(monkeypatch, capability, known):
    cupy = backends.get("cupy").xp
    major, minor = capability
    properties = cupy.cuda.runtime.getDeviceProperties(0) | {"major": major, "minor": minor}
    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceProperties", lambda index: properties)
    monkeypatch.setattr(cupy.cuda.nvrtc, "getSupportedArchs", lambda: known)


def test_precompiled_kernels_are_used(tmp_path, monkeypatch):
    cupy = backends.get("cupy").xp
    monkeypatch.setattr(kernels, "files", lambda: ("elementwise",))
    monkeypatch.setattr(kernels, "TILES", (128,))
    by_tma = 2 * (1 + 2) * 2  # types, forward and input gradients' tiles, and slices
    assert precompile.precompile((9, 0), tmp_path) == 4 + (2 + 2 * 2 + 1) * (2 + 2 * 2 * 3) + by_tma
    for cached in (kernels._module, kernels._function):
        cached.cache_clear()
    monkeypatch.setenv(machine_code.PRECOMPILED, str(tmp_path))
    monkeypatch.setattr(machine_code, "_cache", lambda: tmp_path / "empty")
    monkeypatch.setattr(cupy.cuda.nvrtc, "compileProgram", None)  # nothing is compiled
    b = backends.get("cupy")
    np.testing.assert_array_equal(b.to_numpy(b.relu(b.asarray([-1.0, 2.0]))), [0.0, 2.0])


def test_a_folder_of_precompiled_kernels_that_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv(machine_code.PRECOMPILED, "kernels")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=rf"names {tmp_path}/kernels, which is not a folder: give"):
        machine_code.of("", ())


@pytest.mark.parametrize(
    ("capability", "sentence"),
    [("9", "'9' is no compute capability, such as 9.0"), ("3.0", "does not support this GPU")],
)
def test_a_capability_that_cannot_be_compiled_for(
    monkeypatch, capsys, tmp_path, capability, sentence
):
    monkeypatch.setattr(sys, "argv", ["precompile", capability, str(tmp_path / "kernels")])
    with pytest.raises(SystemExit) as ended:
        precompile.main()
    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err


def test_a_cache_that_cannot_be_written_to(tmp_path):
    """Kernels go to a folder of this process, which is removed when it ends."""
    (tmp_path / "file").touch()
    program = "from minialex.backends.cuda import machine_code as m; print(m._cache()); m._cache()"
    program += "; assert m._cache().is_dir()"
    cache = tmp_path / "file" / "cache"
    environment = {**os.environ, "CUPY_CACHE_DIR": str(cache), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment
    )
    used = Path(done.stdout.strip())
    assert used.parent == tmp_path
    assert not used.exists()
    assert done.stderr.count(f"cannot write in {cache} (Not a directory)") == 1
    assert "set CUPY_CACHE_DIR" in done.stderr


def test_a_cache_that_can_be_written_to(tmp_path, monkeypatch):
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path / "cache"))
    assert machine_code._cache.__wrapped__() == tmp_path / "cache"


def test_threads_that_compile_the_same_source(tmp_path, monkeypatch):
    """Both write the file at the same time, and neither may replace or remove the other's."""
    nvrtc = backends.get("cupy").xp.cuda.nvrtc
    both, right = threading.Barrier(2, timeout=60), os.fsync
    monkeypatch.setattr(nvrtc, "getCUBIN", lambda program: b"machine code")

    def flushed(descriptor):
        if not both.broken and stat.S_ISREG(os.fstat(descriptor).st_mode):
            both.wait()  # both files are written, none is in its place
        right(descriptor)

    monkeypatch.setattr(os, "fsync", flushed)
    with ThreadPoolExecutor(2) as threads:
        given = ("text", ("-arch=sm_90",), tmp_path)
        [one, other] = [threads.submit(machine_code.store, *given) for _ in range(2)]
        assert one.result() == other.result()
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"machine code\0"]


def test_the_backend_asks_only_for_what_is_precompiled(monkeypatch):
    """The ops of a small convolution and softmax, by every algorithm in every precision."""
    asked, of = set(), kernels._module.__wrapped__

    def noted(family, storage, wide_index, device, more):
        asked.add((family, storage, more))
        return of(family, storage, wide_index, device, more)

    monkeypatch.setattr(kernels, "_module", noted)
    kernels._function.cache_clear()
    half = ("bf16", "fp16")
    ways = [("fp32", "im2col"), ("tf32", "im2col"), ("tf32", "implicit")]
    ways += [
        (precision, way) for precision in half for way in ("im2col", "implicit", "wgmma", "tma")
    ]
    for precision, way in ways:
        b = backends.get("cupy", 0, precision)
        b.convolution_by = way
        dtype = b.compute_dtype("float32")
        shapes = ((1, 5, 5, 96), (3, 3, 48, 96)) if way == "tma" else ((1, 5, 5, 8), (3, 3, 4, 16))
        x, w = (b.asarray(np.ones(s, np.float32), dtype) for s in shapes)
        geometry = ((1, 1), ((1, 1), (1, 1)), 2)
        y = b.convolution(x, w, None, *geometry)
        b.convolution_parameter_gradients(x, y, w.shape, *geometry)
        b.convolution_input_gradient(y, w, x.shape, *geometry)
        b.softmax(b.relu(y))
    kernels._function.cache_clear()
    assert asked <= set(kernels.variants((9, 0)))
    assert len({family for family, *_ in asked}) >= 6
    assert ("conv_tma", "float16") in {(family, storage) for family, storage, _ in asked}
