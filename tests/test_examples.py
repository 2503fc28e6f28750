"""Every example runs and shows what it claims."""

import contextlib
import importlib.util
import io
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_is_tested():
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert {path.stem for path in EXAMPLES.glob("*.py")} <= tested


def test_overfit_small():
    """With the small network; the paper's has the marker `slow`."""
    arguments = ["--model", "alexnet-64", "--backend", "numpy", "--devices", "0"]
    # four seeds: below 0.05 after 7 to 9 of the 400 steps
    assert load("overfit_small").main(arguments, lr=0.002) < 0.05


@pytest.mark.slow
def test_overfit_the_papers_network():
    assert load("overfit_small").main([]) < 0.05


def test_write_a_layer(capsys):
    assert load("write_a_layer").main() < 0.1  # ten seeds: 0.0006 to 0.002, from 1.3 to 4.4
    assert "the gradient is correct" in capsys.readouterr().out


def test_write_a_backend(capsys):
    assert load("write_a_backend").main() < 0.1  # ten seeds: 0.0005 to 0.001, from 1.8 to 3.7
    assert "every op agrees" in capsys.readouterr().out


def test_plug_in(capsys):
    losses = load("plug_in").main()
    assert losses[-1] < losses[0]
    assert "plug_in" in capsys.readouterr().out


def test_same_on_two_devices():
    found = load("same_on_two_devices").main(["--steps", "0", "--seeds", "1"])
    assert found["float64", 0] < 1e-13  # measured 4e-15
    assert 1e-9 < found["float32", 0] < 1e-4  # measured 2e-6: other sums, the same gradient


@pytest.fixture(scope="module")
def shapes_run(tmp_path_factory):
    """The run of `train_shapes`, the error that it returned, and what it printed."""
    run, said = tmp_path_factory.mktemp("examples") / "run", io.StringIO()
    with contextlib.redirect_stdout(said):
        error = load("train_shapes").main(
            ["--data", "shapes:48", "--epochs", "1", "--out", str(run)]
        )
    return run, error, said.getvalue()


def test_train_shapes(shapes_run):
    _, error, said = shapes_run
    assert 0 <= error <= 1
    assert "10 crops" in said


def test_figures_of_a_run(shapes_run, tmp_path):
    run, _, _ = shapes_run
    written = load("figures_of_a_run").main([str(run), "--out", str(tmp_path / "f")])
    assert [path.name for path in written] == ["curves.png", "kernels.png", "predictions.png"]
    from PIL import Image

    for path in written:
        with Image.open(path) as image:
            assert min(image.size) > 100
            assert np.asarray(image.convert("L")).std() > 5  # something is drawn


def test_how_training_starts(monkeypatch, capsys):
    module = load("how_training_starts")
    monkeypatch.setattr(module, "MODELS", ("alexnet-64",))
    from minialex.data.statistics import measure

    monkeypatch.setattr(module, "measure", lambda data, size, loader: measure(data, 72))
    monkeypatch.setattr(module, "Loader", lambda data, size: sys.modules[
        "minialex.data.loading.loader"
    ].Loader(data, 72))  # fmt: skip
    losses = module.main(["--data", "shapes:48", "--steps", "3", "--batch-size", "8"])
    assert len(losses["alexnet-64"]) == 3
    assert "scores differ between images" in capsys.readouterr().out
