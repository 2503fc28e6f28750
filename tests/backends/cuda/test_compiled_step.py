"""Training steps as one CUDA graph: the same bits as op by op, in one launch each."""

from dataclasses import replace
from itertools import pairwise
from operator import itemgetter

import cuda_on_cpu
import numpy as np
import pytest
from helpers.steps import here

import minialex
from minialex import backends, models
from minialex.backends.cuda import compiled_step, cublas
from minialex.backends.cuda.backend import CupyBackend
from minialex.backends.cuda.compiled_step import CompiledStep
from minialex.backends.cuda.device import library
from minialex.backends.cuda.device_stream import DeviceStream
from minialex.backends.cuda.graph import Recording
from minialex.data.preprocessing import Preprocessing
from minialex.data.statistics import Statistics
from minialex.errors import TrainingError
from minialex.layers import BatchNorm, Conv2D, Dense, Dropout, MaxPool, ReLU, ResponseNorm
from minialex.models import registry
from minialex.network import Network
from minialex.precision import LossScale
from minialex.training.feed import Photographs
from minialex.training.step import TrainStep


def tiny(classes: int = 10) -> Network:
    """A layer of every kind of the paper's network."""
    layers = (
        ("conv1", Conv2D(8, 5, stride=2, weight_std=None)),
        ("relu1", ReLU()),
        ("norm1", ResponseNorm(alpha=0.1, groups=2)),
        ("pool1", MaxPool(3, 2)),
        ("conv2", Conv2D(16, 3, pad=1, groups=2, weight_std=None, bias=0.1)),
        ("relu2", ReLU()),
        ("fc3", Dense(12, weight_std=None)),
        ("relu3", ReLU()),
        ("drop3", Dropout(0.5)),
        ("fc4", Dense(classes, weight_std=None)),
    )
    return Network(layers, (19, 19, 3))


def normalised(classes: int = 10) -> Network:
    """The same with batch normalisation, before ReLU and alone."""
    layers = dict(tiny(classes).layers)
    layers |= {"norm1": BatchNorm(), "relu3": BatchNorm(keep=0.8)}
    return Network(tuple(layers.items()), (19, 19, 3))


@pytest.fixture(autouse=True)
def model(monkeypatch):
    """The model "tiny", with all augmentation and a learning rate that changes between steps."""
    paper = registry._VARIANTS["alexnet"]
    recipe = replace(paper.recipe, resize=24, colour_divide=True, bias_rate=2.0, bias_decay=0.0)
    for name, network in (("tiny", tiny), ("normalised", normalised)):
        variant = models.Variant(network, recipe, "for tests")
        monkeypatch.setitem(registry._VARIANTS, name, variant)


SETTINGS = {
    "data": "shapes:60",
    "model": "tiny",
    "backend": "cupy",
    "schedule": "cosine",
    "lr": 0.02,
    "batch_size": 16,
    "epochs": 2,
    "progress": False,
}


def train(out, captured: bool = True, **more):
    with pytest.MonkeyPatch.context() as patch:
        if not captured:
            patch.setattr(CupyBackend, "compile", lambda self, step: None)
        return minialex.train(**{**SETTINGS, **more}, out=out)


def assert_same_bits(ours, theirs):
    for one, other in zip(ours.history, theirs.history, strict=True):
        for name in ("step", "train_loss", "l2_loss", "val_loss", "val_top1_error"):
            assert one[name] == other[name], name
    b, c = ours.classifier.devices, theirs.classifier.devices
    for layer, of_layer in ours.classifier.params.items():
        for name, value in of_layer.items():
            wanted = c.to_numpy(theirs.classifier.params[layer][name])
            np.testing.assert_array_equal(b.to_numpy(value), wanted, err_msg=f"{layer} {name}")


@pytest.mark.parametrize(
    ("precision", "optimizer"), [("fp32", "sgd"), ("bf16", "sgd"), ("bf16", "adam")]
)
def test_gives_the_same_bits_as_op_by_op(tmp_path, precision, optimizer):
    """Three full batches and a short one per epoch, dropout, colour shifts, changing rates."""
    how = {"precision": precision, "optimizer": optimizer}
    eager = train(tmp_path / "eager", captured=False, **how)
    captured = train(tmp_path / "captured", **how)
    assert eager.history[0]["train_loss"] != eager.history[1]["train_loss"]
    assert_same_bits(captured, eager)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_same_bits_with_batch_normalisation(tmp_path, monkeypatch, precision):
    """Running statistics too; the short batch of each epoch changes them op by op, in place."""
    captures, capture = [], CompiledStep._capture

    def counted(self, *given):
        captures.append(1)
        capture(self, *given)

    monkeypatch.setattr(CompiledStep, "_capture", counted)
    how = {"precision": precision, "model": "normalised"}
    eager = train(tmp_path / "eager", captured=False, **how)
    assert not captures
    assert_same_bits(train(tmp_path / "captured", **how), eager)
    assert len(captures) == 1


@pytest.fixture
def _impatient(monkeypatch):
    """The loss scale is doubled after each good step, until some gradients overflow."""
    monkeypatch.setattr(LossScale, "patience", 1)
    monkeypatch.setattr(LossScale.__init__, "__defaults__", (LossScale.value, 0, 1))


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_same_bits_with_loss_scaling(tmp_path, monkeypatch, optimizer):
    scales, run = [], TrainStep._run

    def followed(self, state, *more):
        scales.append((state.loss_scale, state.good_steps))
        return run(self, state, *more)

    monkeypatch.setattr(TrainStep, "_run", followed)
    how = {"precision": "fp16", "optimizer": optimizer, "model": "normalised", "epochs": 3}
    eager = train(tmp_path / "eager", captured=False, **how)
    wanted = [scales[step] for step in (3, 7, 11)]  # of the short batches
    assert any(new < old for (old, _), (new, _) in pairwise(scales))
    scales.clear()
    assert_same_bits(train(tmp_path / "captured", **how), eager)
    assert scales == wanted
    train(tmp_path / "run", max_steps=6, **how)
    assert_same_bits(train(tmp_path / "run", resume=True, **how), eager)


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("scheme", ["data", "hybrid", "towers"])
def test_same_bits_on_two_devices(tmp_path, scheme, precision):
    how = {"devices": here([0, 1]), "parallel": scheme, "precision": precision, "epochs": 3}
    eager = train(tmp_path / "eager", captured=False, **how)
    assert_same_bits(train(tmp_path / "captured", **how), eager)


def _forgets(monkeypatch):
    monkeypatch.setattr(DeviceStream, "keep", lambda self, array, until: None)


def _does_not_wait(monkeypatch):
    monkeypatch.setattr(compiled_step, "_received", lambda b, x, owner: b.receive(x, owner)[0])


def _does_not_join(monkeypatch):
    monkeypatch.setattr(Recording, "_join", lambda self: None)


def _overflows_on_the_second_device_only(monkeypatch):
    find = CupyBackend.find_bad
    monkeypatch.setattr(CupyBackend, "find_bad", lambda b, *more: b.device and find(b, *more))


def _ignores_the_others_overflow(monkeypatch):
    _overflows_on_the_second_device_only(monkeypatch)
    monkeypatch.setattr(CupyBackend, "merge_flag", lambda self, flag, bad: None)


@pytest.mark.usefixtures("_impatient")
def test_an_overflow_on_one_device_stops_all(tmp_path, monkeypatch):
    how = {"devices": here([0, 1]), "parallel": "towers", "precision": "fp16", "epochs": 3}
    eager = train(tmp_path / "eager", captured=False, **how)
    _overflows_on_the_second_device_only(monkeypatch)
    assert_same_bits(train(tmp_path / "captured", **how), eager)


@pytest.mark.standin
@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize(
    "mistake", [_forgets, _does_not_wait, _does_not_join, _ignores_the_others_overflow]
)
def test_a_mistake_between_devices_is_caught(tmp_path, monkeypatch, mistake):
    how = {"devices": [0, 1], "parallel": "towers", "precision": "fp16", "epochs": 3}
    eager = train(tmp_path / "eager", captured=False, **how)
    mistake(monkeypatch)
    with pytest.raises((AssertionError, RuntimeError, TrainingError)):
        assert_same_bits(train(tmp_path / "captured", **how), eager)
    cuda_on_cpu.machine.drain()


@pytest.mark.parametrize("scheme", ["data", "towers"])
def test_same_bits_of_two_streams_of_one_device(tmp_path, scheme):
    how = {"devices": [0, 0], "parallel": scheme, "precision": "bf16", "optimizer": "adam"}
    eager = train(tmp_path / "eager", captured=False, **how)
    assert_same_bits(train(tmp_path / "captured", **how), eager)


@pytest.mark.standin
def test_each_stream_of_a_device_reads_its_own_numbers(tmp_path, monkeypatch):
    """The first stream overtakes the copies of the second one's inputs."""
    how = {"devices": [0, 0], "parallel": "data", "max_steps": 1}
    eager = train(tmp_path / "eager", captured=False, **how)
    monkeypatch.setattr(cuda_on_cpu.machine.random, "choice", itemgetter(0))
    assert_same_bits(train(tmp_path / "captured", **how), eager)
    monkeypatch.setattr(CupyBackend, "_own", lambda self, numbers: [*numbers.values()][-1])
    with pytest.raises(AssertionError):
        assert_same_bits(train(tmp_path / "mistaken", **how), eager)


def test_same_bits_with_targets_and_images_from_the_host(tmp_path):
    settings = {
        "epochs": 1,
        "max_steps": 3,
        "crop_scale": 0.4,
        "mixup": 0.3,
        "label_smoothing": 0.1,
    }
    eager = train(tmp_path / "eager", captured=False, **settings)
    assert_same_bits(train(tmp_path / "captured", **settings), eager)


def test_a_stopped_and_resumed_run_gives_the_same_bits(tmp_path):
    """Stopped in the middle of an epoch, with losses still pending."""
    whole = train(tmp_path / "whole", captured=False)
    train(tmp_path / "run", max_steps=3)
    assert_same_bits(train(tmp_path / "run", resume=True), whole)
    train(tmp_path / "mixed", max_steps=6, captured=False)
    assert_same_bits(train(tmp_path / "mixed", resume=True), whole)


@pytest.mark.standin
def test_each_step_is_one_launch(tmp_path, monkeypatch):
    """After the first step, which runs op by op, and the second, which is captured."""
    counts, start = [], CompiledStep.start

    def counted(self, *given):
        machine = cuda_on_cpu.machine
        before = machine.launches, machine.to_host
        started = start(self, *given)
        counts.append((machine.launches - before[0], machine.to_host - before[1]))
        return started

    monkeypatch.setattr(CompiledStep, "start", counted)
    train(tmp_path / "run", max_steps=3)
    assert counts[0][0] > 20
    assert counts[1:] == [(1, 16)] * 2  # one launch, and the loss with the loss scale's numbers


def test_a_loss_that_is_not_finite_ends_the_run_before_any_update(tmp_path):
    with pytest.raises(TrainingError) as captured:
        train(tmp_path / "captured", lr=1e18)
    with pytest.raises(TrainingError) as eager:
        train(tmp_path / "eager", captured=False, lr=1e18)
    ours, theirs = (
        str(e.value).replace(n, "") for e, n in ((captured, "captured"), (eager, "eager"))
    )
    assert ours == theirs
    assert "step" in ours


def test_configurations_that_do_not_compile():
    """cuBLAS's interface is not always found."""
    assert backends.get("cupy").compile(None) is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cublas, "interface", lambda: None)
        assert backends.get("cupy").compile(None) is None
    assert backends.get("numpy").compile(None) is None


def test_a_failed_capture_reports_its_cause():
    """CUDA reports an invalid capture only at its end: that must not hide what made it invalid."""
    b = backends.get("cupy")
    x = b.asarray(np.ones(4, np.float32))
    recording = Recording(b.stream, lambda: b.to_numpy(b.relu(x)))
    recording.run()
    with pytest.raises(RuntimeError, match=r"capturing|CaptureUnsupported"):
        recording.run()
    np.testing.assert_array_equal(b.to_numpy(b.relu(x)), x.get())


def test_a_graph_that_is_dropped_returns_its_memory():
    """CuPy's pools keep theirs when they are only dropped."""
    stream = DeviceStream(0)
    recording = Recording(stream, lambda: stream.zeros((1000,), "float32"))
    for _ in range(3):
        recording.run()
    held = recording._captured
    assert held.graph is not None
    del recording
    assert (held.graph, held.kept, held.pool.total_bytes()) == (None, None, 0)
    if cuda_on_cpu.installed():
        assert not held.pool.freed


def test_a_capture_that_runs_out_of_memory_is_not_replayed(monkeypatch):
    """CuPy's pool then returns what is free, to which earlier kernels of the graph write."""
    stream, cuda = DeviceStream(0), library().cuda
    sizes, refusals, memory = [1000, 1000, 1000, 1000], [], cuda.Memory

    def body():
        stream.zeros((10,), "float32")  # free again for what follows
        return stream.zeros((sizes.pop(0),), "float32")

    def lacking(size):
        if refusals:
            raise cuda.runtime.CUDARuntimeError(refusals.pop())
        return memory(size)

    monkeypatch.setattr(cuda, "Memory", lacking)
    recording = Recording(stream, body)
    recording.run()
    refusals.append(2)  # cudaErrorMemoryAllocation
    sizes[0] = 5_000_000  # the pool has no such block
    recording.run()
    assert not refusals
    assert recording._captured.graph is None
    assert len(sizes) == 1  # it was captured in vain, and run
    recording.run()
    assert recording._captured.graph is not None
    assert not sizes


def test_stacks_of_flow_run_op_by_op():
    """Their colour is not shifted, but the compiled step's shift has three numbers per image."""
    mean = np.zeros((24, 24, 20), np.float32)
    statistics = Statistics(mean, np.ones(3), np.eye(3), 1)
    recipe = registry._VARIANTS["tiny"].recipe
    assert not Photographs(Preprocessing(recipe, statistics)).compilable
    statistics = replace(statistics, mean=mean[..., :3])
    assert Photographs(Preprocessing(recipe, statistics)).compilable


@pytest.mark.standin
@pytest.mark.parametrize(
    ("where", "right", "mistaken"),
    [
        ("dropout", "if (step_at) step = *step_at;", ""),  # repeats the mask of the first step
        ("sgd", "rates ? rates[j] : u.rate", "u.rate"),
        ("crops", "if (scale_at) scale = *scale_at;", ""),
        ("batch_norm", "if (stopped && *stopped) return;", "if (stopped) return;"),
    ],
)
def test_a_stale_argument_is_caught(tmp_path, monkeypatch, where, right, mistaken):
    from minialex.backends.cuda import kernels

    how = {"model": "normalised"}
    eager = train(tmp_path / "eager", captured=False, **how)
    texts = {family: kernels.source(family) for family in kernels.files()}
    assert right in texts[where]
    texts[where] = texts[where].replace(right, mistaken)
    for cached in (kernels._module, kernels._function):
        cached.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(kernels, "source", texts.__getitem__)
        captured = train(tmp_path / "captured", **how)
        with pytest.raises(AssertionError):
            assert_same_bits(captured, eager)
    for cached in (kernels._module, kernels._function):
        cached.cache_clear()
