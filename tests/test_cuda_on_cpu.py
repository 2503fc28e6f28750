"""The stand-in for CUDA detects every kind of bug that it is meant to: each is planted once."""

import os
import re
import subprocess
import sys
from pathlib import Path

import cuda_on_cpu
import numpy as np
import pytest
from cuda_on_cpu import compiler, fake_cupy
from cuda_on_cpu.machine import Machine

from minialex.backends.cuda import kernels, tensor_map

pytestmark = [
    pytest.mark.standin,
    pytest.mark.skipif(bool(cuda_on_cpu.why_not()), reason=str(cuda_on_cpu.why_not())),
]
ROOT = Path(__file__).parents[1]


@pytest.fixture
def cupy():
    """A separate stand-in."""
    return fake_cupy.build(Machine())


def run(cupy, source, name, arrays, *more, grid=(1,), block=(64,), seeds=range(4)):
    """The arrays after the kernel, once for each order in which threads may run."""
    results = []
    for seed in seeds:
        cupy.machine.random.randrange = lambda *_, seed=seed: seed
        given = [cupy.empty(a.shape, a.dtype) for a in arrays]
        for array, host in zip(given, arrays, strict=True):
            array.set(host)
        module = cupy.RawModule(f'#line 1 "number.cuh"\n\n#line 1 "t.cu"\n{source}')
        module.get_function(name)(grid, block, (*given, *more))
        results.append([a.get() for a in given])
    return results


REVERSE = """
extern "C" __global__ void turn(float* x) {
    __shared__ float line[64];
    line[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    x[threadIdx.x] = line[63 - threadIdx.x];
}
"""


def test_a_barrier_works_and_a_missing_one_is_detected(cupy):
    x = np.arange(64, dtype="float32")
    for [turned] in run(cupy, REVERSE, "turn", [x]):
        np.testing.assert_array_equal(turned, x[::-1])
    broken = REVERSE.replace("__syncthreads();", "")
    assert any((turned != x[::-1]).any() for [turned] in run(cupy, broken, "turn", [x]))


def test_threads_waiting_at_different_barriers_raise(cupy):
    half = REVERSE.replace("    __syncthreads();", "    if (threadIdx.x < 32) __syncthreads();")
    with pytest.raises(RuntimeError, match="returned while others wait"):
        run(cupy, half, "turn", [np.zeros(64, "float32")])


def test_warp_shuffles(cupy):
    source = """
    extern "C" __global__ void total(float* x) {
        float v = x[threadIdx.x];
        for (int o = 16; o; o /= 2) v += __shfl_xor_sync(0xffffffffu, v, o);
        x[threadIdx.x] = v;
    }
    """
    x = np.arange(64, dtype="float32")
    for [found] in run(cupy, source, "total", [x]):
        np.testing.assert_array_equal(found, np.repeat(x.reshape(2, 32).sum(1), 32))


def test_an_out_of_bounds_write_is_detected(cupy):
    for index, words in ((-1, "before"), (64, "behind")):
        source = f'extern "C" __global__ void stray(float* x) {{ x[{index}] = 1; }}'
        array = cupy.empty((64,), "float32")
        module = cupy.RawModule(f'#line 1 "number.cuh"\n\n#line 1 "t.cu"\n{source}')
        module.get_function("stray")((1,), (1,), (array,))
        del array
        with pytest.raises(AssertionError, match=words):
            cupy.machine.drain()


def test_memory_is_nan_until_it_is_written(cupy):
    for dtype in ("float32", "float64", "float16"):
        assert np.isnan(cupy.empty((5,), dtype).get()).all()


def test_a_stream_that_does_not_wait_reads_too_early(cupy):
    """Of many copies between streams, some run before their source is written."""
    wrong = {True: 0, False: 0}
    for waits in wrong:
        for _ in range(30):
            one, two = cupy.cuda.Stream(), cupy.cuda.Stream()
            with one:
                x = cupy.empty((4,), "float32")
                x.set(np.ones(4, "float32"))
                event = one.record()
            with two:
                y = cupy.empty((4,), "float32")
                if waits:
                    two.wait_event(event)
                y.data.copy_from_device_async(x.data, x.nbytes)
                wrong[waits] += bool((y.get() != 1).any())
    assert wrong[True] == 0
    assert wrong[False] > 0


def test_arrays_refuse_the_same_as_cupys(cupy):
    x = cupy.empty((4,), "float32")
    with pytest.raises(TypeError, match="Implicit conversion"):
        np.asarray(x)
    with pytest.raises(TypeError):
        x + x  # not a kernel of ours
    with pytest.raises(TypeError, match="kernel parameter"):
        run(cupy, REVERSE, "turn", [], np.zeros(64, "float32"))


def test_a_bug_planted_in_a_real_kernel_is_caught(monkeypatch):
    """A window of the normalisation that crosses to the other group."""
    from minialex import backends

    text = kernels.source("response_norm")
    assert text.count("c - half > start ? c - half : start") == 1
    mistaken = text.replace("c - half > start ? c - half : start", "c - half > 0 ? c - half : 0")
    b, reference = backends.get("cupy"), backends.get("numpy")
    x = np.random.default_rng(0).normal(size=(2, 3, 2, 8))
    norm = (3, 1.0, 1.0, 0.75, 2)
    wanted, _ = reference.response_norm(x, *norm)
    np.testing.assert_allclose(b.to_numpy(b.response_norm(b.asarray(x), *norm)[0]), wanted)
    for cached in (kernels._module, kernels._function):
        cached.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(kernels, "source", lambda family: mistaken)
        found = b.to_numpy(b.response_norm(b.asarray(x), *norm)[0])
    for cached in (kernels._module, kernels._function):
        cached.cache_clear()
    assert not np.allclose(found, wanted)


PHASES = """
extern "C" __global__ void phases(float* x) {
    __shared__ unsigned long long barrier;
    if (threadIdx.x == 0) fibers::start_barrier(&barrier, 64);
    __syncthreads();
    for (int phase = 0; phase < 3; ++phase) {
        x[threadIdx.x] = phase;
        fibers::arrive(&barrier, 0);
        fibers::wait(&barrier, phase & 1);
        x[threadIdx.x] += 10 * x[63 - threadIdx.x];
        __syncthreads();
    }
}
"""


def test_phases_of_an_mbarrier(cupy):
    for [found] in run(cupy, PHASES, "phases", [np.zeros(64, "float32")]):
        assert set(found) <= {22, 222}  # the other has not, or has, added already
    for right, mistaken, text in (
        ("barrier, 64", "barrier, 65", "never ends"),
        ("if (threadIdx.x == 0) fibers::start", "if (false) fibers::start", "initialised"),
        ("phase & 1", "phase & 1 ^ 1", "never ends"),
    ):
        assert PHASES.count(right) == 1
        with pytest.raises(RuntimeError, match=text):
            run(cupy, PHASES.replace(right, mistaken), "phases", [np.zeros(64, "float32")])


BOX = """
struct alignas(64) TensorMap { unsigned long long opaque[16]; };
extern "C" __global__ void copy(const __grid_constant__ TensorMap map, short* out, int x, int y) {
    __shared__ unsigned long long barrier;
    alignas(1024) __shared__ short box[5 * 64];
    if (threadIdx.x == 0) {
        const int at[] = {x, y};
        fibers::start_barrier(&barrier, 1);
        fibers::arrive(&barrier, sizeof box);
        fibers::queue_box(box, 0, &map, at, 2, &barrier);
    }
    __syncthreads();
    fibers::wait(&barrier, 0);
    for (int i = threadIdx.x; i < 5 * 64; i += 64) out[i] = box[i];
}
"""


def boxes(cupy, source, x, y):
    """The box of 5 rows of 64 numbers at (x, y) of an array of 7 x 80, as it is in memory."""
    array = cupy.empty((7, 80), "float16")
    array.set(np.arange(560).astype(np.float16).reshape(7, 80))
    out = cupy.empty((5, 64), "int16")
    module = cupy.RawModule(f'#line 1 "number.cuh"\n\n#line 1 "t.cu"\n{source}')
    given = (tensor_map.of(array, (80, 7), (64, 5)), out, np.int32(x), np.int32(y))
    module.get_function("copy")((1,), (64,), given)
    return out.get().view(np.float16)


def test_a_box_is_swizzled_and_zero_outside_its_array(cupy):
    wide = np.zeros((30, 300))
    wide[10:17, 100:180] = np.arange(560).reshape(7, 80)
    for x, y in ((0, 0), (16, 1), (-3, -2), (40, 4), (0, 7)):
        expected = wide[10 + y : 15 + y, 100 + x : 164 + x].reshape(5, 8, 8)
        swizzled = [[expected[row, chunk ^ row] for chunk in range(8)] for row in range(5)]
        found = boxes(cupy, BOX, x, y).reshape(5, 8, 8)
        np.testing.assert_array_equal(found, np.array(swizzled).astype(np.float16))


def test_a_box_that_is_not_waited_for(cupy):
    cupy.machine.random.randrange = lambda *_: 0  # it arrives as late as possible
    with pytest.raises(RuntimeError, match="boxes were being copied"):
        boxes(cupy, BOX.replace("fibers::wait(&barrier, 0);", ""), 0, 0)
    with pytest.raises(RuntimeError, match="without a tensor map"):
        boxes(cupy, BOX.replace("box, 0, &map", "box, 64, &map"), 0, 0)


# ------------------------------------------------------------------------------ AddressSanitizer


def under_asan(*arguments: str) -> subprocess.CompletedProcess:
    """Python with AddressSanitizer loaded, and kernels compiled for it."""
    library = subprocess.run(
        [str(compiler.available()), "-print-file-name=libasan.so"], capture_output=True, text=True
    ).stdout.strip()
    if not Path(library).is_absolute():
        pytest.skip("this compiler has no AddressSanitizer")
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={
            **os.environ,
            "LD_PRELOAD": library,
            "ASAN_OPTIONS": "detect_leaks=0",
            "PYTHONMALLOC": "malloc",
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
            "HYPOTHESIS_PROFILE": "short",
            # fibers switch stacks without its knowledge: leave stacks out
            "MINIALEX_TEST_CXXFLAGS": "-O0 -fsanitize=address --param=asan-stack=0",
        },
    )


STRAY_READ = """
import numpy as np
from cuda_on_cpu import fake_cupy
from cuda_on_cpu.machine import Machine
cupy = fake_cupy.build(Machine())
source = 'extern "C" __global__ void stray(float* x) { x[0] = x[%d]; }'
module = cupy.RawModule('#line 1 "number.cuh"\\n\\n#line 1 "t.cu"\\n' + source)
x = cupy.empty((6,), "float32")
module.get_function("stray")((1,), (1,), (x,))
x.get()
print("survived")
"""


@pytest.mark.parametrize("index", [-1, 6])
def test_an_out_of_bounds_read_is_detected(index):
    done = under_asan("-c", STRAY_READ % index)
    assert done.returncode != 0
    assert "use-after-poison" in done.stderr
    assert "survived" in under_asan("-c", STRAY_READ % 5).stdout


@pytest.mark.slow  # a minute of compilation; .ci/run runs it
def test_no_kernel_accesses_memory_outside_its_arrays():
    done = under_asan("-m", "pytest", "-qs", "tests/backends", "-k", "cupy and not cuda")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert re.search(r"\d+ passed", done.stdout)
