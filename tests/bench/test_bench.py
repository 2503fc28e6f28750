"""`minialex bench`: what it counts, what it prints, on every backend."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.cli_tools import photos

import minialex
from minialex import models
from minialex.bench import data, measure, report
from minialex.bench.measure import Timing
from minialex.bench.network import Run, by_stage, zero_inputs
from minialex.bench.program import Peer, Program
from minialex.bench.programs import PROGRAMS
from minialex.bench.roofline import Roofline
from minialex.bench.subject import Subject, trained
from minialex.cli import main
from minialex.data.sources.open import open_data
from minialex.errors import InputError
from minialex.parallel import SingleDevice


@pytest.fixture(autouse=True)
def small_roofline(monkeypatch):
    """The product and the update that set the roofline, at a size for tests."""
    monkeypatch.setattr(
        measure, "measure", lambda b, m=measure.measure: m(b, size=64, numbers=4096, rounds=1)
    )


def test_operations_are_counted_as_in_the_paper():
    alexnet = models.get("alexnet")
    forward = measure._flops(alexnet, 1, "inference")
    assert forward == pytest.approx(1.45e9, rel=0.01)
    first = 2 * 55 * 55 * 96 * 11 * 11 * 3  # the images have no gradient
    assert measure._flops(alexnet, 1, "training step") == 3 * forward - first
    assert measure._flops(alexnet, 128, "inference") == 128 * forward


@pytest.mark.parametrize("backend", ["numpy", "numba", "cupy"])
def test_every_layer_is_timed_on_every_backend(backend):
    from minialex import backends

    model = models.get("alexnet-64", 5)
    run = Run(SingleDevice(model.network, backends.get(backend)), Subject(model), 3)
    rows = {row.name: row for row in by_stage(run, rounds=1)}
    assert list(rows) == [name for name, _ in model.network.layers]
    total = 0.0
    for row in rows.values():
        fused = row.name not in {stage.name for stage in model.network.stages(training=True)}
        assert (row.forward is None) == (row.backward is None) == fused
        passes = [one for one in (row.forward, row.backward) if one is not None]
        assert all(one.seconds > 0 for one in passes)
        total += sum(one.flops for one in passes)
    assert total == measure._flops(model, 3, "training step")
    weights = model.network.rows()[0].parameters
    (p, q, k), (h, w, c) = model.network.shapes()[1], model.network.input_shape
    assert rows["conv1"].forward.bytes == 4 * (3 * (h * w * c + p * q * k) + weights)
    assert all(row.backward is None for row in by_stage(run, rounds=1, training=False))


def test_the_timed_step_trains():
    from minialex import backends

    model = models.get("alexnet-64", 3)
    subject = Subject(model)
    run = Run(SingleDevice(model.network, backends.get("numpy")), subject, 2)
    before = {name: np.array(of["weight"]) for name, of in run.params.items()}
    run.train()
    assert all((before[name] != run.params[name]["weight"]).any() for name in before)
    assert all((before[name] == subject.params[name]["weight"]).all() for name in before)


def test_roofline_shares_and_ratios():
    roofline = Roofline(flops=100.0, bytes=10.0)
    assert roofline.least_seconds(50, 1) == 0.5
    assert roofline.least_seconds(50, 20) == 2.0
    assert Timing("training step", 2.0, 1.0, {"default": 5.0, "channels_last": 3.0}).ratio == 1.5
    assert Timing("inference", 2.0, 1.0, {}).ratio is None


def test_table_and_json_agree(capsys, tmp_path):
    file = tmp_path / "bench.json"
    words = ["bench", "alexnet-64", "--batch-size", "2", "--rounds", "1", "--backend", "numba"]
    assert main.main([*words, "--threads", "1", "--json", str(file)]) == 0
    table = capsys.readouterr().out
    document = json.loads(file.read_text())
    assert document["threads"] == 1
    names = [of["name"] for of in document["layers"] if of["forward"] or of["backward"]]
    assert all(f"\n{name} " in table for name in [*names, "sum"])
    for timing in document["timings"]:
        assert f"{timing['images_per_second']:,.1f} images/s" in table
        assert timing["times_torch"] is None
    assert document["first_calls_seconds"] > 0


def test_pytorch_takes_turns():
    torch = pytest.importorskip("torch")
    model = models.get("alexnet-64", 4)
    result = measure.bench(Subject(model), 2, backend="numba", threads=1, compare="torch", rounds=1)
    assert torch.get_num_threads() == 1
    for timing in result.timings:
        assert set(timing.peers) == {"default", "channels_last"}
        assert timing.ratio == min(timing.peers.values()) / timing.seconds
    assert "times PyTorch's best" in report.text(result)


def test_onnx_runtime_takes_turns_at_inference(capsys):
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package)
    words = ["bench", "alexnet-64", "--batch-size", "2", "--rounds", "1", "--backend", "numba"]
    words += ["--threads", "1", "--compare", "onnxruntime"]
    assert main.main([*words, "--inference", "--json"]) == 0
    [timing] = json.loads(capsys.readouterr().out)["timings"]
    [(name, seconds)] = timing["onnxruntime_seconds"].items()
    assert name == "ONNX Runtime"
    assert timing["times_onnxruntime"] == seconds / timing["seconds"]
    assert main.main(words) == 2
    assert "does not train them: add --inference" in capsys.readouterr().err


class Taken(float):
    """Seconds that a stand-in for a program says it took."""


def other(key, name, seconds, packages=("numpy",), trains=True):
    """A program that takes so long per image, in two ways, of which the first is slower."""

    def peers(model, batch, threads):
        works = [lambda s=s: Taken(s * batch) for s in (2 * seconds, seconds)]
        return [Peer(f"way {i}", work if trains else None, work) for i, work in enumerate(works)]

    return Program(key, name, packages, trains, peers)


@pytest.fixture
def others(monkeypatch):
    """Programs to compare with: one that trains, one that does not, one that is not installed."""
    made = other("a 1", "Alpha", 0.03), other("b", "Beta", 0.08, trains=False)
    for one in (*made, other("c", "Gamma", 0, ("no_such_package",))):
        monkeypatch.setitem(PROGRAMS, one.key, one)

    def seconds(b, work):
        found = work()
        return float(found) if isinstance(found, Taken) else 0.02

    monkeypatch.setattr(measure, "seconds", seconds)


BENCH = ["bench", "cifar10", "--rounds", "1", "--backend", "numpy", "--threads", "1"]


@pytest.mark.usefixtures("others")
def test_programs_and_batch_sizes_make_a_table(tmp_path, capsys):
    words = ["--inference", "--compare", "a 1,b,c", "--batch-size", "1,3", "--json"]
    assert main.main([*BENCH, *words, f"{tmp_path}/found.json"]) == 0
    table = capsys.readouterr().out.splitlines()
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["left_out"] == [line.removeprefix("left out: ") for line in table[-1:]]
    assert "Gamma needs no_such_package: `pip install no_such_package`" in table[-1]
    assert [row["batch"] for row in found["rows"]] == [1, 3]
    peers = {"a 1": 0.09, "b": 0.24}
    assert found["rows"][1] == {"batch": 3, "seconds": 0.02, "peers": peers, "zero_inputs": {}}
    assert table[4].split() == ["batch", "minialex", "images/s", "Alpha", "ratio", "Beta", "ratio"]
    assert table[5].split() == ["1", "20.0", "50.0", "30.0", "1.50", "80.0", "4.00"]
    assert table[6].split() == ["3", "20.0", "150.0", "90.0", "4.50", "240.0", "12.00"]


@pytest.mark.usefixtures("others")
def test_programs_that_cannot_train_are_left_out_of_training(capsys):
    assert main.main([*BENCH, "--compare", "a 1,b", "--batch-size", "2"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("left out: Beta runs networks and does not train them")
    for words, sentence in (
        (["--compare", "b,c"], "does not train them: add --inference; Gamma needs"),
        (["--compare", "a 1,d"], "unknown program to compare with 'd'"),
        (["--batch-size", "1,2"], "add --compare"),
        (["--batch-size", "0"], "must be a whole number of at least 1"),
    ):
        assert main.main([*BENCH, *words]) == 2
        assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--data shapes:48 --batch-size 8", "--batch-size has no effect with --data"),
        ("--data shapes:48 --backend numpy", "--backend has no effect with --data"),
        ("--data shapes:48 --accuracy --rounds 2", "--rounds has no effect with --accuracy"),
        ("--data shapes:48 --from r --fine-tune --seeds 2", "no effect with --fine-tune"),
        ("--suite gpu --json f --batch-size 8", "--batch-size has no effect with --suite"),
        ("--suite gpu --json f --accuracy", "--accuracy has no effect with --suite"),
    ],
)
def test_options_of_another_measurement_are_refused(capsys, words, sentence):
    assert main.main(["bench", *words.split()]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.usefixtures("others")
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--data shapes:48 --compare d", "unknown program to compare with 'd'"),
        ("--data shapes:48 --compare b", "only torch, PyTorch's DataLoader"),
        ("--data shapes:48 --batch-size 1,2", "--data takes no list of batch sizes"),
        ("--ranks 1,2 --compare b --batch-size 1,2", "leave out --compare or --ranks"),
        ("--ranks 1,2 --batch-size 1,2", "--ranks takes no list of batch sizes"),
        ("--suite gpu --compare b --json f", "leave out --compare or --suite"),
        ("--accuracy --data shapes:48 --compare b", "leave out --compare or --accuracy"),
        ("--fine-tune --data shapes:48 --from r --compare b", "out --compare or --fine-tune"),
        ("--from r", "--from has no effect here: add --inference"),
        ("--from r --data d", "--from has no effect here: add --inference"),
        ("--inference --from r", "needs photographs: add --data"),
        ("--inference --data d", "needs weights: add --from RUN"),
        ("--inference --from r --data d", "MODEL and --option have no effect with --from"),
        ("--from r --ranks 1", "--from has no effect with --ranks"),
        ("--suite gpu --json f --from r", "no effect with --suite"),
        ("--fine-tune --from r --data d", "MODEL has no effect with --fine-tune"),
        ("--accuracy --from r --data d", "MODEL has no effect with --accuracy"),
        ("--inference --from r --data d --size 64", "--size has no effect with --from"),
        ("--inference --from r --data d --workers 2", "--workers has no effect with --from"),
        ("--size 64", "--size has no effect here: leave it out, or add --data"),
        ("--workers 2", "--workers has no effect here: leave it out, or add --data"),
        ("--seeds 2", "--seeds has no effect here: leave it out, or add --accuracy"),
        ("--latency 2", "--latency has no effect here: leave it out, or add --ranks"),
        ("--checks", "--checks has no effect here: leave it out, or add --suite"),
        ("--minutes 2", "leave it out, or add --suite or --accuracy"),
        ("--data shapes:48", "MODEL has no effect with --data: leave out one"),
        ("--ranks 1 --data shapes:48", "--data has no effect with --ranks"),
        ("--ranks 1 --inference", "--inference has no effect with --ranks"),
    ],
)
def test_options_that_would_have_no_effect_are_refused(capsys, words, sentence):
    assert main.main([*BENCH, *words.split()]) == 2
    assert sentence in capsys.readouterr().err


def test_a_version_comes_from_the_module(monkeypatch):
    """Distributions have other names, such as onnxruntime-gpu."""
    monkeypatch.setitem(sys.modules, "gamma", SimpleNamespace(__version__="1.2"))
    assert other("c", "Gamma", 0, ("gamma",)).version() == "1.2"


@pytest.mark.parametrize("name", ["alexnet", "alexnet-torchvision", "cifar10", "alexnet-bn"])
def test_pytorchs_network_has_the_same_parameters(name):
    pytest.importorskip("torch")
    from minialex.bench.pytorch import network_in_torch

    network = models.get(name).network
    theirs = sum(p.numel() for p in network_in_torch(network).parameters())
    assert theirs == network.parameter_count


def test_reading_is_compared_with_a_data_loader(tmp_path):
    photos(tmp_path / "folder")
    torch = pytest.importorskip("torch")  # noqa: F841
    found = data.rates(tmp_path / "folder", size=64, workers=1, rounds=1, compare=True)
    assert [rate.per_core_second is None for rate in found] == [False, False, True]
    assert all(rate.images_per_second > 0 for rate in found)
    text = data.text(found)
    assert text.count("min per epoch") == 3
    assert "times the DataLoader's rate" in text
    assert len(data.document(found)) == 3


def test_only_folders_of_files_are_compared():
    with pytest.raises(InputError, match="only a folder of image files"):
        data.rates("shapes:48", size=64, workers=1, compare=True)


@pytest.mark.usefixtures("others")
def test_trained_weights_are_timed_on_photographs(tmp_path, capsys):
    run, given = tmp_path / "run", photos(tmp_path / "photos")
    settings = {"model": "alexnet-32", "epochs": 1, "batch_size": 4, "backend": "numpy"}
    minialex.train(given, out=run, **settings)
    classifier = minialex.load(run, backend="numpy")
    subject = trained(run, given, 5)
    scores = Run(classifier.devices, subject, 2).infer()
    first = [str(open_data(given).val.path(int(np.random.default_rng(0).permutation(2)[0])))]
    expected = {one.name: one.probability for one in classifier.predict(first, top=2)[0]}
    found = np.exp(scores[0]) / np.exp(scores[0]).sum()
    assert dict(zip(classifier.class_names, found, strict=True)) == pytest.approx(
        expected, rel=1e-5
    )
    zeros = zero_inputs(Run(classifier.devices, subject, 2))
    run_of_two = Run(classifier.devices, subject, 2)
    hidden = classifier.devices.infer(run_of_two.params, run_of_two.input, 2, until="drop7")
    assert zeros["fc8"] == np.mean(~hidden.any(axis=0)) > 0
    with pytest.raises(InputError, match="only 2 photographs: choose"):
        subject.images(6)

    words = ["bench", "--from", str(run), "--data", str(given), "--inference", "--rounds", "1"]
    words += ["--batch-size", "2", "--backend", "numpy"]
    for more in ([], ["--compare", "a 1,b"]):
        assert main.main([*words, *more]) == 0
        printed = capsys.readouterr().out
        assert f"weights of {run} on photographs of {given}" in printed
        assert "dense inputs that are zero for the whole batch: fc6" in printed
