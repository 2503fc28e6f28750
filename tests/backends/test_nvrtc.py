"""Every kernel compiles for every architecture and precision, silently and without spills."""

import re

import nvrtc
import pytest

from minialex.backends.cuda import kernels

WANTED = (70, 75, 80, 86, 90, 100)

pytestmark = pytest.mark.skipif(
    nvrtc.library() is None, reason="NVRTC is not installed: pip install nvidia-cuda-nvrtc-cu12"
)


def complaints(source: str, architecture: int, options: tuple[str, ...]) -> list[str]:
    """Warnings, and kernels whose registers spill to memory."""
    binary, log = nvrtc.compile_source(source, architecture, options)
    assert binary.startswith(b"\x7fELF")
    lines = log.splitlines()
    spills = re.compile(r"([1-9]\d*) bytes spill")
    lines = [line for line in lines if "Architectures prior to" not in line]  # 7.0 still compiles
    return [line for line in lines if "warning" in line.lower() or spills.search(line)]


@pytest.mark.parametrize("storage", kernels.STORAGES)
@pytest.mark.parametrize("family", kernels.files())
def test_every_architecture_precision_and_index_width(family, storage):
    known = [a for a in WANTED if a in nvrtc.architectures()]
    assert len(known) >= 4
    for architecture, wide_index in [(a, False) for a in known] + [(80, True)]:
        options = kernels.options(storage, wide_index)
        assert complaints(kernels.source(family), architecture, options) == []


def test_a_warning_and_an_error_are_seen():
    unused = 'extern "C" __global__ void f(float* x) { int unused; x[0] = 1; }'
    assert "unused" in complaints(unused, 80, ("-std=c++17",))[0]
    with pytest.raises(RuntimeError, match="undefined"):
        nvrtc.compile_source("__global__ void f() { g(); }", 80, ())
