"""What all tests share: hypothesis profiles, and the real photographs where there are any."""

import os
from pathlib import Path

import cuda_on_cpu
import pytest
from hypothesis import HealthCheck, settings

_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("default", max_examples=100, **_COMMON)
settings.register_profile("ci", max_examples=100, derandomize=True, **_COMMON)
settings.register_profile("short", max_examples=20, derandomize=True, **_COMMON)
settings.register_profile("thorough", max_examples=500, **_COMMON)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE", "ci" if "CI" in os.environ else "default")
)


def pytest_configure(config):
    """`pytest -m gpu` runs on CuPy and its devices, everything else on the stand-in."""
    expression = config.getoption("markexpr", "")
    config.on_gpu = "gpu" in expression and "not gpu" not in expression
    if not config.on_gpu:
        cuda_on_cpu.install()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """A folder of real images: $MINIALEX_SHARED_DATA, or ../shared/data beside the repository."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("MINIALEX_SHARED_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no real images at {folder}: set MINIALEX_SHARED_DATA to test on some")
    return folder
