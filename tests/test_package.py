"""The house rules that a machine can check: imports, public names."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import minialex

PACKAGE = Path(minialex.__file__).parent
ROOT = PACKAGE.parent


def imported(path: Path) -> set[str]:
    """Full names of all modules that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("layers/*.py")), ids=lambda p: p.name)
def test_a_layer_names_no_backend(path):
    assert not re.search(r"numpy|cupy|numba", path.read_text(encoding="utf-8"))


# cli -> training, evaluation -> parallel -> network -> layers -> backends; data and rng beside
@pytest.mark.parametrize(
    ("lower", "upper"),
    [
        ("backends/**/*.py", ("layers", "network", "models", "training", "inference", "cli")),
        ("layers/*.py", ("network", "models", "training", "inference", "data", "cli")),
        ("network.py", ("models", "training", "inference", "data", "cli")),
        ("data/**/*.py", ("backends", "layers", "network", "training", "inference", "cli")),
        ("training/*.py", ("cli",)),
        ("inference/*.py", ("training", "cli")),
    ],
)
def test_imports_point_one_way(lower, upper):
    for path in PACKAGE.glob(lower):
        forbidden = {f"minialex.{name}" for name in upper}
        assert not forbidden & imported(path), path


def test_the_reference_stands_alone():
    for path in (ROOT / "reference").glob("*.py"):
        assert not any(name.split(".")[0] == "minialex" for name in imported(path)), path


def test_import_is_light():
    script = "import sys, minialex; print(*sys.modules)"
    output = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"numpy", "numba", "PIL", "scipy", "safetensors", "tqdm", "matplotlib"} & set(output)


def test_every_public_name_is_there():
    for name in minialex.__all__:
        assert getattr(minialex, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'AlexNett'"):
        _ = minialex.AlexNett
