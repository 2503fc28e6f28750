"""Shared by all tests: hypothesis profiles, and real photographs if available."""

import gc
import os
import signal
import time
from pathlib import Path

import cuda_on_cpu
import pytest
from helpers import numba_lock
from helpers.slim import slim_variant
from hypothesis import HealthCheck, settings

from minialex.backends.cuda import device
from minialex.models import registry
from minialex.training import report

LEAVE = report.leave

_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("default", max_examples=100, **_COMMON)
settings.register_profile("ci", max_examples=100, derandomize=True, **_COMMON)
settings.register_profile("short", max_examples=20, derandomize=True, **_COMMON)
settings.register_profile("thorough", max_examples=500, **_COMMON)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE", "ci" if "CI" in os.environ else "default")
)
# of the tests on a GPU, those that would start later are skipped; the most important come first
_BEGUN, _GPU_SECONDS = time.monotonic(), float(os.environ.get("MINIALEX_TEST_GPU_SECONDS", "inf"))
_ORDER = ("/backends/test_", "/backends/cuda/", "/parallel/")


def pytest_configure(config):
    """`pytest -m gpu` runs on CuPy and its devices, everything else on the stand-in."""
    expression = config.getoption("markexpr", "")
    if getattr(config.option, "numprocesses", None):
        # for future workers: threads of several BLAS libraries would wait for each other
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if "PYTEST_XDIST_WORKER" in os.environ:
        numba_lock.install()
    config.on_gpu = "gpu" in expression and "not gpu" not in expression
    if not config.on_gpu:
        cuda_on_cpu.install()
    elif "MINIALEX_TEST_NULL_CUDA" in os.environ:  # the real CuPy, without a GPU
        import null_cuda

        null_cuda.install()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """The tests that run on a device: the CUDA backend's, except those of the stand-in itself."""
    missing = None
    if config.on_gpu and not device.usable():
        missing = pytest.mark.skip(reason="no CUDA device, or no CuPy, on this machine")
    for item in items:
        if config.on_gpu and _on_a_device(item):
            item.add_marker(pytest.mark.gpu)
            if missing:
                item.add_marker(missing)
    if config.on_gpu:
        items.sort(key=lambda item: [place not in item.nodeid for place in _ORDER])
        config.gpu_tests_end = _BEGUN + _GPU_SECONDS


def pytest_runtest_setup(item):
    """Skip a test on a GPU if its time is over."""
    if item.config.on_gpu and time.monotonic() > item.config.gpu_tests_end:
        pytest.skip(f"MINIALEX_TEST_GPU_SECONDS={_GPU_SECONDS:.0f} have passed")


def _on_a_device(item) -> bool:
    """Whether a test uses the CUDA backend, and can use a real device."""
    if item.get_closest_marker("standin"):
        return False
    files = ("/backends/cuda/", "/test_placements.py", "/test_parallel_training.py")
    by_place = any(f in item.nodeid for f in files) and "numpy" not in item.nodeid
    return by_place or "cupy" in item.nodeid


def pytest_collection_finish():
    """Garbage collection skips what exists by now: each would take a quarter of a second."""
    gc.collect()
    gc.freeze()


SLIM = (
    "alexnet-128",
    "alexnet-64",
    "alexnet-64-bn",
    "alexnet-96-bn",
    "alexnet-64-six",
    "alexnet-32",
    "alexnet-32-bn",
    "cifar10",
    "stream-48",
)


@pytest.fixture(scope="module")
def slim_networks():
    """In this module, the networks for small images have an eighth of their channels and units.

    If a test is not about the network, training takes most of its time.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in SLIM:
            patch.setitem(registry._VARIANTS, name, slim_variant(registry._VARIANTS[name]))
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_reports():
    """Training ends without results.html, which takes another validation; `reports` enables it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "leave", lambda trainer, state, curve: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_kept_weights(tmp_path_factory):
    """Weights are kept in a folder of the tests, never in the user's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIALEX_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture
def reports(monkeypatch):
    """Training in this test ends with results.html."""
    monkeypatch.setattr(report, "leave", LEAVE)


@pytest.fixture
def plain_signals():
    """Signals act as in a terminal, even if the tests run under nohup or in the background."""
    plain = {signal.SIGINT: signal.default_int_handler}
    plain |= {
        getattr(signal, name): signal.SIG_DFL for name in ("SIGHUP",) if hasattr(signal, name)
    }
    before = {number: signal.signal(number, handler) for number, handler in plain.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """A folder of real images: $MINIALEX_SHARED_DATA, or ../shared/data beside the repository."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("MINIALEX_SHARED_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no real images at {folder}: set MINIALEX_SHARED_DATA to test on some")
    return folder
