"""On the real CuPy without a GPU: what CUDA would refuse is refused, each rule broken once.

Runs as MINIALEX_TEST_NULL_CUDA=1 python -m pytest -m gpu tests/test_null_cuda.py where CuPy is
installed; test_real_cupy.py does that.
"""

import os
from contextlib import suppress

import numpy as np
import pytest

from minialex import backends

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        "MINIALEX_TEST_NULL_CUDA" not in os.environ, reason="needs the null CUDA: see above"
    ),
]


@pytest.fixture
def cupy():
    import cupy

    assert not hasattr(cupy, "machine"), "this is the stand-in"
    return cupy


@pytest.fixture
def null():
    import null_cuda

    return null_cuda.install()


@pytest.fixture
def b():
    return backends.get("cupy")


def captured(cupy, work, mode=None):
    """The graph of `work` on a stream of its own."""
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture(mode)
        try:
            work(stream)
        except Exception:
            with suppress(cupy.cuda.runtime.CUDARuntimeError):
                stream.end_capture()
            raise
        return stream.end_capture()


def refused(cupy, text):
    return pytest.raises((cupy.cuda.runtime.CUDARuntimeError, RuntimeError), match=text)


def test_kernels_run_and_are_counted(b, null):
    before = null.null_launches()
    x = np.array([-1.0, 2.0, 3.0], np.float32)
    np.testing.assert_array_equal(b.to_numpy(b.relu(b.asarray(x))), [0, 2, 3])
    assert null.null_launches() == before + 1


def test_a_graph_repeats_its_work_and_not_its_result(cupy, b, null):
    x = b.asarray(np.ones(4, np.float32))
    b.add(x, x)  # compiled before the capture
    made = []

    def work(stream):
        made.append(b.add(x, x))

    before = null.null_graph_launches()
    graph = captured(cupy, work)
    assert null.null_graph_launches() == before
    x.set(np.full(4, 3, np.float32))
    assert not np.array_equal(b.to_numpy(made[0]), np.full(4, 6))  # captured, and not run
    graph.launch(cupy.cuda.get_current_stream())
    assert null.null_graph_launches() == before + 1
    np.testing.assert_array_equal(b.to_numpy(made[0]), np.full(4, 6))


@pytest.mark.parametrize(
    ("work", "text"),
    [
        (lambda cupy, b, s: s.synchronize(), "StreamCapture"),
        (lambda cupy, b, s: cupy.cuda.Device().synchronize(), "StreamCapture"),
        (lambda cupy, b, s: cupy.empty(4, "float32").get(), "capturing"),
        (lambda cupy, b, s: cupy.empty(4, "float32").set(np.ones(4, "float32")), "capturing"),
        (lambda cupy, b, s: pageable(cupy), "capturing"),
        (lambda cupy, b, s: cupy.cuda.Stream().record() and s.wait_event(EVENTS[0]), "Isolation"),
    ],
)
def test_what_cannot_be_captured(cupy, b, work, text):
    EVENTS[:] = [cupy.cuda.get_current_stream().record()]
    with refused(cupy, text):
        captured(cupy, lambda stream: work(cupy, b, stream))


EVENTS: list = []


def test_another_stream_joins_a_capture_and_is_waited_for(cupy, b, null):
    x = b.asarray(np.ones(4, np.float32))
    other, made = b.with_own_stream(), []
    other.add(x, x)

    def work(stream, joined=True):
        other.stream.own.wait_event(stream.record())
        made.append(other.add(x, x))
        if joined:
            stream.wait_event(other.record())

    with refused(cupy, "StreamCaptureUnjoined"):
        captured(cupy, lambda stream: work(stream, joined=False))
    graph = captured(cupy, work)
    x.set(np.full(4, 3, np.float32))
    graph.launch(cupy.cuda.get_current_stream())
    np.testing.assert_array_equal(b.to_numpy(made[1]), np.full(4, 6))


def pageable(cupy):
    host = np.ones(4, "float32")
    cupy.empty(4, "float32").data.copy_from_host_async(host.ctypes.data, host.nbytes)


def test_a_strict_capture_refuses_allocations(cupy, b):
    cupy.get_default_memory_pool().free_all_blocks()
    strict = cupy.cuda.runtime.streamCaptureModeThreadLocal
    with refused(cupy, "StreamCapture"):
        captured(cupy, lambda stream: cupy.cuda.memory.Memory(1 << 20), strict)


def test_a_captured_product_needs_a_workspace(cupy, b, monkeypatch):
    from minialex.backends.cuda import cublas

    x = b.asarray(np.ones((4, 4), np.float32))
    b.dense(x, x, None)
    captured(cupy, lambda stream: b.dense(x, x, None))
    interface = cublas.interface()
    monkeypatch.setattr(interface, "cublasSetWorkspace_v2", lambda *given: 0)
    with refused(cupy, "cublasGemmEx failed with status 13"):
        captured(cupy, lambda stream: b.dense(x, x, None))


def test_launches_beyond_the_limits(cupy, b):
    from minialex.backends.cuda import kernels

    x = b.asarray(np.ones(4, np.float32))
    function = kernels._function("elementwise", "relu", "float32", False, 0, ())
    arguments = (x, x, np.int32(4))
    for grid, block, shared in (
        ((1, 1 << 16), (32,), 0),
        ((1,), (2048,), 0),
        ((1,), (32,), 50_000),
    ):
        with pytest.raises(cupy.cuda.driver.CUDADriverError, match="INVALID_VALUE"):
            function(grid, block, arguments, shared_mem=shared)
    with pytest.raises(cupy.cuda.driver.CUDADriverError):
        function.max_dynamic_shared_size_bytes = 300_000
    function.max_dynamic_shared_size_bytes = 60_000
    function((1,), (32,), arguments, shared_mem=50_000)


def test_memory_is_limited_and_not_a_number(cupy):
    # The pool keeps what is left of a block while any array lies in it: memory of its own.
    with cupy.cuda.using_allocator(cupy.cuda.MemoryPool().malloc):
        assert np.isnan(cupy.empty(77_777, "float32").get()).all()
    with pytest.raises(cupy.cuda.memory.OutOfMemoryError):
        cupy.empty(200 << 30, "uint8")


def test_an_event_of_another_device(cupy):
    with cupy.cuda.Device(1):
        elsewhere = cupy.cuda.Event()
    with refused(cupy, "InvalidValue"):
        cupy.cuda.get_current_stream().record(elsewhere)
