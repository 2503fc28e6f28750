"""Missing requirements for CUDA are reported."""

import cuda_on_cpu
import pytest

from minialex import backends
from minialex.backends.cuda import cublas
from minialex.errors import InputError


@pytest.mark.standin
def test_whatever_is_missing_gives_a_one_sentence_error(monkeypatch):
    cupy = backends.get("cupy").xp
    with pytest.raises(InputError, match=r"no CUDA device 7: this machine has 2 \(number 0, 1\)"):
        backends.get("cupy", 7)
    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", lambda: 0)
    with pytest.raises(InputError, match="finds no GPU"):
        backends.get("cupy")

    def no_driver():
        raise cupy.cuda.runtime.CUDARuntimeError("cudaErrorInsufficientDriver: too old")

    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", no_driver)
    with pytest.raises(InputError, match=r"no usable CUDA driver \(cudaErrorInsufficientDriver"):
        backends.get("cupy")
    monkeypatch.setitem(__import__("sys").modules, "cupy", None)
    with pytest.raises(InputError, match=r'install "minialex\[gpu\]" for CUDA 12'):
        backends.get("cupy")
    assert backends.get("auto").name != "cupy"


@pytest.mark.standin
def test_a_missing_cublas_gives_a_one_sentence_error(monkeypatch):
    cupy = backends.get("cupy").xp

    def missing():
        raise ImportError("Failure finding libcublas.so.13\nsearched in /usr/lib")

    monkeypatch.setattr(cupy.cuda.device, "get_cublas_handle", missing)
    monkeypatch.setattr(cupy.cuda.runtime, "runtimeGetVersion", lambda: 13000)
    monkeypatch.setattr(cublas, "_open", cuda_on_cpu.OPEN_CUBLAS)
    with pytest.raises(
        InputError, match=r"cannot load cuBLAS \(Fail.*13\): .*cupy-cuda13x\[ctk\]'\"$"
    ):
        cublas.interface.__wrapped__()
