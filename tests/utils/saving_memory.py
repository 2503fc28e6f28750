"""Peak memory of saving AlexNet's weights and velocities, by minialex and by safetensors.

    python tests/utils/saving_memory.py

Each is measured in its own process; the printed value is the growth of the peak while saving. Linux
only: the peak from `getrusage` includes that of the parent process.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np


def state() -> dict[str, np.ndarray]:
    """Weights and velocities of "alexnet", every page touched."""
    from minialex import models

    shapes = models.get("alexnet").network.parameter_shapes()
    return {
        f"{prefix}{layer}.{name}": np.ones(shape, np.float32)
        for layer, of_layer in shapes.items()
        for name, shape in of_layer.items()
        for prefix in ("", "velocity.")
    }


def growth(how: str, tensors: dict[str, np.ndarray]) -> float:
    """MB by which this process's peak grows while `how` saves `tensors`."""
    from safetensors.numpy import save_file

    from minialex.utils import checkpoint

    with tempfile.TemporaryDirectory() as folder:
        path, before = Path(folder) / "last.safetensors", _peak()
        if how == "minialex":
            checkpoint.save(path, tensors, {})
        else:
            save_file(tensors, path)
        return _peak() - before


def _peak() -> float:
    """This process's peak resident memory in MB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    [kib] = [line.split()[1] for line in lines if line.startswith("VmHWM")]
    return int(kib) * 1024 / 1e6


def main() -> None:
    from importlib.metadata import version

    size = sum(array.nbytes for array in state().values()) / 1e6
    print(f"state {size:.0f} MB; peak memory grows while saving by")
    for how in ("minialex", "safetensors"):
        out = subprocess.run([sys.executable, __file__, how], capture_output=True, check=True)
        print(f"  {how} {version(how)}: {float(out.stdout):.1f} MB")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(growth(sys.argv[1], state()))
    else:
        main()
