"""What is the Numba backend's own: threads, memory used again, products of parts, the cache."""

import gc
import os
import subprocess
import sys
import threading
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from minialex import backends
from minialex.backends.numba import backend, blas, execution
from minialex.backends.numba import convolution as convolution_by_tiles
from minialex.backends.numba.allocator import Memory
from minialex.errors import InputError
from minialex.testing.tolerance import assert_close
from minialex.utils import cores, jit, threads
from reference import convolution

MOST = backends.get("numba").threads

# ------------------------------------------------------------------------------------ products


@given(
    st.tuples(*[st.integers(1, 9)] * 3),
    st.tuples(*[st.integers(0, 3)] * 3),
    st.sampled_from(["multiply", "multiply_turned", "multiply_by_turned"]),
    st.booleans(),
    st.sampled_from(["float32", "float64"]),
)
def test_products_of_parts_of_arrays(sizes, beside, which, add, dtype):
    (m, n, depth), rng = sizes, np.random.default_rng(sum(sizes))
    shapes = {
        "multiply": ((m, depth), (depth, n)),
        "multiply_turned": ((depth, m), (depth, n)),
        "multiply_by_turned": ((m, depth), (n, depth)),
    }[which]
    wide = [
        rng.normal(size=(rows, columns + 2 * extra)).astype(dtype)
        for (rows, columns), extra in zip((*shapes, (m, n)), beside, strict=True)
    ]
    a, b, c = (
        array[:, extra : array.shape[1] - extra] for array, extra in zip(wide, beside, strict=True)
    )
    left = a.T if which == "multiply_turned" else a
    right = b.T if which == "multiply_by_turned" else b
    wanted = left @ right + (c if add else 0)
    around = wide[2].copy()
    getattr(blas, which)(a, b, c, add)
    assert_close(np.array(c), wanted, dtype, depth)
    around[:, beside[2] : wide[2].shape[1] - beside[2]] = c
    np.testing.assert_array_equal(wide[2], around)  # nothing beside it was written


def test_one_and_several_threads_agree():
    if MOST < 2:
        pytest.skip("this process may use one core only")
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(5, 9, 8, 4)), rng.normal(size=(3, 3, 2, 6))
    place = ((1, 2), ((1, 1), (0, 2)), 2)
    one, several = (backends.get("numba", threads=count) for count in (1, 2))
    y = one.convolution(x, w, None, *place)
    assert_close(several.convolution(x, w, None, *place), y, "float64", 18)
    dw = one.convolution_weight_gradient(x, y, (3, 3), *place)
    assert_close(several.convolution_weight_gradient(x, y, (3, 3), *place), dw, "float64", 300)


@given(
    st.integers(1, 3),
    st.sampled_from([(3, 1), (4, 1), (5, 1), (6, 2), (7, 2), (11, 4)]),
    st.tuples(st.integers(1, 15), st.integers(1, 15)),
    st.tuples(*[st.integers(0, 5)] * 4),
    st.sampled_from([(1, 1, 1), (2, 3, 1), (4, 2, 2), (6, 9, 3)]),
    st.booleans(),
    st.sampled_from(["float32", "float64"]),
    st.integers(1, min(3, MOST)),
)
def test_tiles_are_the_convolution(n, kernel, size, pads, channels, relu, dtype, threads_used):
    """Winograd's sums against the loops of the reference, forward and both gradients."""
    (taps, stride), (top, bottom, left, right) = kernel, pads
    (h, w), (c, k, groups) = size, channels
    assume(h + top + bottom >= taps and w + left + right >= taps)
    rng = np.random.default_rng(h + w)
    x, weight = rng.normal(size=(n, h, w, c)), rng.normal(size=(taps, taps, c // groups, k))
    bias, place = rng.normal(size=k), ((stride,) * 2, ((top, bottom), (left, right)), groups)
    wanted = convolution.forward(x, weight, bias, *place)
    dy = rng.normal(size=wanted.shape)
    b = backends.get("numba", threads=threads_used)
    arrays = [array.astype(dtype) for array in (x, weight, bias, dy)]
    with by_tiles():
        y = b.convolution(*arrays[:3], *place, relu=relu)
        dx = b.convolution_input_gradient(arrays[3], arrays[1], x.shape, *place)
        dw = b.convolution_weight_gradient(arrays[0], arrays[3], (taps, taps), *place)
    assert_close(y, np.maximum(wanted, 0) if relu else wanted, dtype, taps * taps * c, "y")
    wanted = convolution.input_gradient(dy, weight, x.shape, *place)
    assert_close(dx, wanted, dtype, taps * taps * k, "dx")
    wanted = convolution.weight_gradient(x, dy, (taps, taps), *place)
    assert_close(dw, wanted, dtype, dy[..., 0].size, "dw")


@contextmanager
def by_tiles():
    """Tiles wherever they can be, and several blocks of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend.NumbaBackend, "_by_tiles", lambda *_: True)
        patch.setattr(convolution_by_tiles, "_TOGETHER", 4)
        yield


@pytest.mark.parametrize("shape", [(27, 96, 256, 5, 2), (13, 256, 384, 3, 1)])
def test_how_much_tiles_round(shape):
    """The paper's layers: under 1e-5 of the outputs' deviation, where plain sums are at 3e-7."""
    extent, c, k, taps, groups = shape
    rng = np.random.default_rng(0)
    x = np.maximum(rng.normal(size=(8, extent, extent, c)), 0)
    weight, dy = rng.normal(size=(taps, taps, c // groups, k)), rng.normal(size=(*x.shape[:3], k))
    place = ((1, 1), ((taps // 2, taps // 2),) * 2, groups)
    results = []
    for name, dtype in (("numpy", "float64"), ("numba", "float32")):
        b = backends.get(name)
        some = [array.astype(dtype) for array in (x, weight, dy)]
        if name == "numba":
            assert b._by_tiles(8, weight.shape, x.shape[1:3], (1, 1), groups)
        results.append(
            (
                b.convolution(some[0], some[1], None, *place),
                b.convolution_input_gradient(some[2], some[1], x.shape, *place),
                b.convolution_weight_gradient(some[0], some[2], (taps, taps), *place),
            )
        )
    for wanted, found in zip(*results, strict=True):
        assert np.sqrt(np.mean((found - wanted) ** 2)) < 1e-5 * wanted.std()


def test_threads_are_started_with_short_waits_unless_the_user_says_otherwise(monkeypatch):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    with threads.short_waits():
        assert int(os.environ["GOMP_SPINCOUNT"]) < 10_000
    assert "GOMP_SPINCOUNT" not in os.environ
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    with threads.short_waits():
        assert "GOMP_SPINCOUNT" not in os.environ


# ------------------------------------------------------------------------------------ memory


def test_memory_is_used_again_when_the_last_view_is_gone():
    memory = Memory()
    array = memory.empty((3, 1 << 20), "float32")
    array[:] = 1
    view, address = array[1:, ::2].T, array.ctypes.data
    del array
    other = memory.empty((3, 1 << 20), "float32")
    assert other.ctypes.data != address  # the view still reads the first
    other[:] = 2
    assert (view == 1).all()
    del view
    gc.collect()
    assert memory.empty((3 << 20,), "float32").ctypes.data == address


def test_free_memory_is_bounded_by_what_was_in_use_at_once():
    memory = Memory(slack=1.5)
    for megabytes in (64, 8, 32, 4, 16, 64, 2, 128, 1):
        array = memory.empty((megabytes << 20,), "uint8")
        assert array.nbytes == megabytes << 20
        assert memory.used + memory.free <= 1.5 * memory.most
        del array
    assert memory.used == 0
    assert memory.most <= 128 << 20


def test_a_block_that_is_too_large_is_not_wasted_on_a_small_array():
    memory = Memory(slack=10)
    memory.empty((64 << 20,), "uint8")
    memory.empty((2 << 20,), "uint8")
    assert memory.free == 66 << 20


def test_memory_is_shared_by_threads():
    memory, wrong = Memory(), []

    def work(value):
        for _ in range(200):
            arrays = [memory.empty((1 << 20,), "uint8") for _ in range(3)]
            for array in arrays:
                array[::4096] = value
            wrong.extend(1 for array in arrays if (array[::4096] != value).any())

    workers = [threading.Thread(target=work, args=(value,)) for value in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong
    assert memory.used == 0


def test_what_was_taken_long_ago_is_given_up():
    memory = Memory()
    memory.empty((400 << 20,), "uint8")
    for _ in range(2100):
        memory.empty((2 << 20,), "uint8")
    assert memory.free <= 4 << 20


def test_memory_that_is_not_there_is_a_memory_error():
    memory = Memory()
    memory.empty((2 << 20,), "uint8")
    with pytest.raises(MemoryError, match="MiB for one array"):
        memory.empty((1 << 46,), "uint8")
    assert memory.used == 0
    assert memory.most == 2 << 20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_has_its_own_memory():
    code = """
import os
from minialex.backends.numba.allocator import Memory
array = Memory().empty((1 << 20,), "float32")
array[:] = 1
if os.fork() == 0:
    array[:] = 7
    os._exit(0)
os.wait()
assert (array == 1).all()
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_process_forked_after_use_is_told():
    code = """
import os, numpy as np
from minialex import backends
from minialex.errors import InputError
b, x = backends.get("numba"), np.ones(9, np.float32)
b.relu(x)
if os.fork() == 0:
    try:
        b.relu(x)
    except InputError as error:
        os._exit(42 if "forked" in str(error) else 1)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 42
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_small_arrays_are_numpys():
    memory = Memory()
    assert memory.empty((3, 4), "float64").shape == (3, 4)
    assert memory.empty((0, 4), "float32").size == 0
    assert memory.most == 0


@pytest.mark.slow
def test_ten_thousand_steps_need_no_more_memory_than_a_hundred():
    code = """
import resource
from minialex import backends, models
from minialex.bench.network import Run
run = Run(backends.get("numba"), models.get("cifar10"), 16)
for step in range(10_000):
    run.train()
    if step == 100:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(before, after)
assert after - before < 20_000, (before, after)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_memory_grows_with_the_batch_and_not_with_the_steps():
    from minialex import models
    from minialex.bench.network import Run
    from minialex.parallel import SingleDevice

    peaks = []
    for batch in (32, 64, 96):
        memory = Memory()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(execution, "MEMORY", memory)
            model = models.get("alexnet-64")
            run = Run(SingleDevice(model.network, backends.get("numba")), model, batch)
            run.train()
            first = memory.most
            for _ in range(3):
                run.train()
            assert memory.most == first
            assert memory.used == 0
            peaks.append(memory.most)
    # blocks come in sizes an eighth apart
    assert peaks[2] - peaks[1] == pytest.approx(peaks[1] - peaks[0], rel=0.25)


# ------------------------------------------------------------------------------------ threads


def test_threads_follow_the_cores_of_the_process():
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system binds no process to cores")
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from minialex.utils.cores import usable_cores; print(usable_cores())"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "1\n"


@pytest.mark.parametrize(
    ("limit", "wanted"),
    [("150000 100000", 2), ("50000 100000", 1), ("400000 100000", 4), ("max 100000", None)],
)
def test_threads_follow_the_limit_of_the_container(tmp_path, limit, wanted):
    (tmp_path / "cpu.max").write_text(limit + "\n")
    assert cores._quota(tmp_path) == wanted
    assert cores._quota(tmp_path / "elsewhere") is None


def test_no_threads_at_all_is_one_sentence():
    with pytest.raises(InputError, match=f"ask for at most {MOST}"):
        backends.get("numba", threads=MOST + 1)
    with pytest.raises(InputError, match="0 threads were asked for"):
        backends.get("numba", threads=0)
    with pytest.raises(InputError, match='"cupy" has no threads'):
        backends.get("cupy", threads=2)


def test_our_products_have_one_blas_thread_and_numpys_keep_theirs():
    code = """
from threadpoolctl import ThreadpoolController
import numpy
before = ThreadpoolController().info()
from minialex import backends
backends.get("numba")
after = {lib["filepath"]: lib["num_threads"] for lib in ThreadpoolController().info()}
assert all(after[lib["filepath"]] == lib["num_threads"] for lib in before), after
own = [n for path, n in after.items() if path not in {lib["filepath"] for lib in before}]
assert own in ([], [1]), after
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_several_python_threads_may_call_at_once():
    code = """
import threading, numpy as np
from minialex import backends
b, x = backends.get("numba"), np.random.default_rng(0).normal(size=(4, 30, 30, 8)).astype("f4")
wanted, bad = b.response_norm(x, 5, 2.0, 1.0, 0.75, 1)[0], []
def work():
    for _ in range(100):
        if (b.response_norm(x, 5, 2.0, 1.0, 0.75, 1)[0] != wanted).any():
            bad.append(1)
workers = [threading.Thread(target=work) for _ in range(4)]
[w.start() for w in workers], [w.join() for w in workers]
assert not bad
"""
    environment = {**os.environ, "NUMBA_THREADING_LAYER": "workqueue"}  # the least patient one
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


# ------------------------------------------------------------------------------------ the cache


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
