"""Machine code of the kernels: for which architecture, and made on another machine."""

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
    ],
)
def test_the_architecture_for_a_device(monkeypatch, capability, known, wanted):
    set_up(monkeypatch, capability, known)
    assert machine_code.architecture(0) == wanted


def test_a_gpu_that_cuda_no_longer_supports(monkeypatch):
    """CUDA 13 compiles for 7.5 and later."""
    set_up(monkeypatch, (7, 0), [75, 80, 90])
    with pytest.raises(InputError, match=r"of compute capability 7\.0, only 7\.5 .*cupy-cuda12x"):
        machine_code.architecture(0)
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
    assert precompile.precompile((9, 0), tmp_path) == 4 + (2 + 2 + 1) * 3 * (2 + 2 * 2 * 3)
    for cached in (kernels._module, kernels._function):
        cached.cache_clear()
    monkeypatch.setenv(machine_code.CARRIED, str(tmp_path))
    monkeypatch.setattr(cupy.cuda.nvrtc, "compileProgram", None)  # nothing is compiled
    b = backends.get("cupy")
    np.testing.assert_array_equal(b.to_numpy(b.relu(b.asarray([-1.0, 2.0]))), [0.0, 2.0])


def test_a_cache_that_cannot_be_written_to(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path / "file" / "cache"))
    folder = machine_code._cache.__wrapped__()
    assert folder.is_dir()
    assert tmp_path not in folder.parents
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path / "cache"))
    assert machine_code._cache.__wrapped__() == tmp_path / "cache"


def test_the_backend_asks_only_for_what_is_precompiled(monkeypatch):
    """A network's step in every precision, with every algorithm of convolution."""
    asked, of = set(), kernels._module.__wrapped__

    def noted(family, storage, wide_index, device, more):
        asked.add((family, storage, more))
        return of(family, storage, wide_index, device, more)

    monkeypatch.setattr(kernels, "_module", noted)
    kernels._function.cache_clear()
    for precision, way in (("fp32", "im2col"), ("tf32", "implicit"), ("bf16", "wgmma")):
        b = backends.get("cupy", 0, precision)
        b.convolution_by = way
        dtype = b.compute_dtype("float32")
        x, w = (b.asarray(np.ones(s, np.float32), dtype) for s in ((1, 5, 5, 8), (3, 3, 4, 16)))
        geometry = ((1, 1), ((1, 1), (1, 1)), 2)
        y = b.convolution(x, w, None, *geometry)
        b.convolution_parameter_gradients(x, y, w.shape, *geometry)
        b.convolution_input_gradient(y, w, x.shape, *geometry)
        b.softmax(b.relu(y))
    kernels._function.cache_clear()
    assert asked <= set(kernels.variants((9, 0)))
    assert len({family for family, *_ in asked}) >= 5
