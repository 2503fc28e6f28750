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


def imported(path: Path, top: bool = False) -> set[str]:
    """Full names of all modules that a file imports: anywhere in it, or only at its top level."""
    names = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body if top else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("layers/*.py")), ids=lambda p: p.name)
def test_a_layer_names_no_backend(path):
    assert not re.search(r"numpy|cupy|numba", path.read_text(encoding="utf-8"))


# What each part of the package may import: only parts listed before it.
ORDER = (
    *("errors", "rng", "precision", "tree", "utils", "backends", "layers", "fusion", "losses"),
    *("network", "models", "optim", "schedules", "data", "exchange", "parallel", "inference"),
    *(
        "saliency",
        "plots",
        "results",
        "training",
        "show",
        "testing",
        "baselines",
        "video",
        "bench",
        "experiments",
        "cli",
    ),
    "__main__",
)


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_every_package_has_a_rank():
    parts = {part_of(path) for path in PACKAGE.rglob("*.py")} - {"__init__"}
    assert parts == set(ORDER)


@pytest.mark.parametrize("part", ORDER)
def test_imports_point_one_way(part):
    later = {f"minialex.{name}" for name in ORDER[ORDER.index(part) + 1 :]}
    for path in PACKAGE.rglob("*.py"):
        if part_of(path) == part:
            wrong = {name for name in imported(path) if ".".join(name.split(".")[:2]) in later}
            assert not wrong, f"{path}: {wrong}"


def test_modules_have_no_import_cycles():
    """Considers only imports at module level: imports inside functions may point back."""
    edges = {}
    for path in PACKAGE.rglob("*.py"):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        edges[name] = imported(path, top=True)
    edges = {  # not of a module's own packages, which are there before it
        name: {n for n in found if n in edges and not f"{name}.".startswith(f"{n}.")}
        for name, found in edges.items()
    }
    while edges:
        free = {name for name, found in edges.items() if not found}
        assert free, f"a circle among {sorted(edges)}"
        edges = {n: found - free for n, found in edges.items() if n not in free}


def test_only_its_backend_and_benchmark_import_cuda():
    measures = PACKAGE / "cli" / "bench.py"
    for path in PACKAGE.rglob("*.py"):
        if part_of(path) not in ("backends", "bench") and path != measures:
            assert not any(n.startswith("minialex.backends.cuda") for n in imported(path)), path


def test_the_reference_stands_alone():
    for path in (ROOT / "reference").glob("*.py"):
        assert not any(name.split(".")[0] == "minialex" for name in imported(path)), path


def test_import_is_light():
    script = "import sys, minialex; print(*sys.modules)"
    output = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"numpy", "numba", "PIL", "scipy", "safetensors", "tqdm", "matplotlib"} & set(output)


def test_every_public_name_exists():
    for name in minialex.__all__:
        assert getattr(minialex, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'AlexNett'"):
        _ = minialex.AlexNett


def test_only_the_project_is_tracked():
    """No run folder of a test or an experiment, which `git add` would take."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a clone")
    folders = {name.partition("/")[0] for name in listed.stdout.splitlines() if "/" in name}
    assert folders <= {"minialex", "reference", "tests", "examples", "docs", ".ci", ".github"}
