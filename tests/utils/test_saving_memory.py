"""Saving copies nothing: the process's peak does not grow by the size of the data."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_saving_needs_no_extra_memory():
    """A copy of the state would be 488 MB, of its largest array alone 151 MB."""
    script = Path(__file__).with_name("saving_memory.py")
    out = subprocess.run([sys.executable, str(script), "minialex"], capture_output=True, check=True)
    assert float(out.stdout) < 16
