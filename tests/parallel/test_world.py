"""What ranks tell of each other, and the mistakes of starting them."""

import sys
import time
from contextlib import nullcontext
from types import SimpleNamespace

import cuda_on_cpu
import numpy as np
import pytest
from helpers.tiny import tiny

from minialex import backends
from minialex.backends import GenericBackend
from minialex.backends.cuda import nccl
from minialex.cli.main import main
from minialex.data.sources.open import open_data
from minialex.errors import InputError
from minialex.parallel import DeviceConfig, SingleDevice, mpi
from minialex.parallel.exchange import Exchange
from minialex.parallel.world import World, open_world, threads_of_share
from minialex.training import announce
from minialex.training.config import TrainConfig
from minialex.training.ranks import require_same, require_same_start, with_micro_batch
from minialex.training.state import State
from minialex.tree import map_tree
from minialex.utils.launcher import launched_as, require_one_process

OPEN_MPI = ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK")
PMI = ("PMI_SIZE", "PMI_RANK")
SLURM = ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID")


@pytest.fixture
def started(monkeypatch):
    """Sets what a launcher says of its processes; without it, there is none."""
    for name, _ in (OPEN_MPI, PMI, SLURM):
        monkeypatch.delenv(name, raising=False)

    def say(size, rank, names=PMI):
        monkeypatch.setenv(names[0], str(size))
        monkeypatch.setenv(names[1], str(rank))

    return say


def test_without_a_launcher_there_is_one_process(started):
    assert launched_as() == (1, 0)
    assert (open_world().size, open_world().launched) == (1, False)
    started(1, 0, SLURM)  # a shell that srun started
    assert not open_world().launched


@pytest.mark.parametrize("names", [OPEN_MPI, PMI, SLURM])
def test_a_launcher_is_recognised(started, names):
    started(4, 3, names)
    assert launched_as() == (4, 3)
    with pytest.raises(InputError, match="find_lr runs in one process, not in 4"):
        require_one_process("find_lr")


def test_without_mpi4py(started, monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    started(2, 0)
    with pytest.raises(InputError, match=r"2 processes .* mpi4py.*pip install 'minialex\[mpi\]'"):
        open_world()
    started(1, 0)
    assert open_world().size == 1


@pytest.mark.parametrize(
    ("names", "advice"),
    [
        ([PMI], "with the mpirun of that MPI"),
        ([SLURM], "with srun --mpi=pmix, or with the mpirun of that MPI"),
        ([SLURM, PMI], "with srun --mpi=pmix, or with the mpirun of that MPI"),  # --mpi=pmi2
        ([SLURM, OPEN_MPI], "with the mpirun of that MPI"),  # in a job of SLURM
    ],
)
def test_the_mpirun_of_another_mpi(started, monkeypatch, names, advice):
    alone = SimpleNamespace(Get_size=lambda: 1)
    fake = SimpleNamespace(COMM_WORLD=alone, Get_library_version=lambda: "Open MPI v5, package\0")
    monkeypatch.setitem(sys.modules, "mpi4py", SimpleNamespace(MPI=fake))
    for one in names:
        started(4, 2, one)
    mpi.open_mpi.cache_clear()
    with pytest.raises(
        InputError, match=rf"4 processes, but MPI connects only 1: .* Open MPI v5 here, .* {advice}"
    ):
        open_world()


class Others(World):
    """Three ranks, of which the last gathers something else."""

    size = 3

    def __init__(self, **differences):
        self.differences = differences

    def gather(self, value):
        if not isinstance(value, dict):
            return [value] * self.size
        return [value, value, {**value, **self.differences}]


@pytest.mark.parametrize(
    ("differences", "sentence"),
    [
        ({}, None),
        ({"images": "others"}, "rank 2 has other images than rank 0: all must train the same"),
        ({"precision": "bf16"}, r"rank 2 has other precision than rank 0 \(bf16, not fp32\)"),
        ({"version of minialex": "9"}, r"rank 2 has other version of minialex than rank 0 \(9"),
        ({"batch_size": 9}, r"rank 2 has other batch_size than rank 0 \(9, not None\)"),
    ],
)
def test_ranks_that_would_train_something_else(differences, sentence):
    devices, splits = SingleDevice(tiny(12), backends.get("numpy")), open_data("shapes:48")
    if sentence is None:
        require_same(Others(), TrainConfig(), devices, splits)
        return
    with pytest.raises(InputError, match=sentence):
        require_same(Others(**differences), TrainConfig(), devices, splits)


def test_a_rank_has_no_more_threads_than_its_process_may_use():
    world, most = Others(), backends.get("numba").threads
    for world.threads, wanted in ((1, 1), (1000, most)):
        [b] = DeviceConfig("numba").open(tiny(12), world=world).backends
        assert b.threads == wanted


@pytest.mark.standin
@pytest.mark.parametrize("isolated", [None, "device", "part"])
def test_each_rank_of_a_machine_takes_its_own_device(isolated, monkeypatch):
    """Of all the machine's, or the only one that its process sees, which is then number 0.

    That may be a part of a GPU (MIG), whose parts all have its address.
    """
    if isolated:
        monkeypatch.setattr(cuda_on_cpu.machine, "devices", 1)
    runtime, found = sys.modules["cupy"].cuda.runtime, []
    properties = runtime.getDeviceProperties(0)
    for rank in range(2):
        if isolated == "device":
            monkeypatch.setattr(runtime, "deviceGetPCIBusId", lambda device, own=f"{rank}": own)
        if isolated == "part":
            own = {**properties, "uuid": bytes([7, rank])}
            monkeypatch.setattr(runtime, "getDeviceProperties", lambda device, own=own: own)
        world = Others()
        world.node_rank = rank
        devices = DeviceConfig("cupy").open(tiny(12), world=world)
        [b] = devices.backends
        found.append(("here", {b.device_id(): b.device}))
    assert [list(on_it.values()) for _, on_it in found] == ([[0], [0]] if isolated else [[0], [1]])
    world.gather = lambda value: found if isinstance(value, tuple) else [value] * 2
    require_same(world, TrainConfig(), devices, open_data("shapes:48"))  # they are not one device


def test_ranks_also_take_the_devices_of_a_plugged_in_backend(monkeypatch):
    class Two(GenericBackend):
        device_count = lambda self: 2  # noqa: E731
        device_id = lambda self: f"mine {self.device}"  # noqa: E731

    monkeypatch.setitem(backends._registered, "mine", lambda device: Two("mine", np, device))
    world = Others()
    world.node_rank = 1
    assert DeviceConfig("mine").open(tiny(12), world=world).backends[0].device == 1
    assert DeviceConfig("numpy").open(tiny(12), world=world).backends[0].device is None


@pytest.mark.standin
@pytest.mark.parametrize(
    ("size", "link", "said"),
    [
        (2, object(), "gradients by NCCL"),
        (2, None, "gradients by MPI, through host memory"),
        (1, None, ""),
    ],
)
def test_how_the_gradients_of_devices_travel_is_said(size, link, said):
    for name in ("cupy", "numpy"):
        devices = SingleDevice(tiny(12), backends.get(name))
        step = SimpleNamespace(world=SimpleNamespace(size=size), link=link, devices=devices)
        assert announce.exchange(step) == (said if name == "cupy" else "")


@pytest.mark.standin
def test_nccl_is_not_left_within_a_group(monkeypatch):
    called = []
    fake = SimpleNamespace(NCCL_FLOAT32=7, NCCL_FLOAT64=8, groupStart=lambda: called.append(1))
    monkeypatch.setattr(nccl, "nccl", lambda: fake)
    link = object.__new__(nccl.Link)
    link._communicator, link._stream = None, backends.get("cupy").stream
    with pytest.raises(TypeError, match="NCCL moves float32, float64 here, not int32"):
        link.move([(np.zeros(2, np.int32), 1)], [])
    assert not called


@pytest.mark.standin
def test_two_ranks_on_one_device_are_refused():
    world, splits = Others(), open_data("shapes:48")
    world.host, world.node_rank = "there", 2  # of two devices
    devices = DeviceConfig("cupy").open(tiny(12), world=world)
    with pytest.raises(InputError, match="ranks 0 and 1 both use device 0 of there: start one"):
        require_same(world, TrainConfig(), devices, splits)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: None, None),
        (
            lambda state: setattr(state, "step", 7),
            r"other weights than rank 0 \(step 7, not 0\)",
        ),
        (lambda state: state.params["conv1"]["bias"].fill(1), "other weights than rank 0: "),
        (
            lambda state: state.slots["v"]["conv1"]["bias"].fill(1),
            "other weights than rank 0: ",
        ),
    ],
)
def test_ranks_that_read_other_states_are_refused(change, said):
    """Each reads its own copy of the run folder, which may be older."""
    [devices] = [DeviceConfig("numpy").open(tiny(12))]
    states = []
    for _ in range(2):
        params = devices.network.init(backends.get("numpy"), 0, "float32")
        states.append(State(params, {"v": map_tree(np.zeros_like, params)}))
    change(states[1])
    worlds, own = [World(), World()], []
    for world, state in zip(worlds, states, strict=True):
        world.size, world.gather = 2, lambda value: own.append(value) or [value, value]
        require_same_start(world, state, devices)
    worlds[0].gather = lambda value: own
    if said is None:
        require_same_start(worlds[0], states[0], devices)
    else:
        with pytest.raises(InputError, match=f"rank 1 has {said}"):
            require_same_start(worlds[0], states[0], devices)


def test_the_default_micro_batch_does_not_depend_on_the_number_of_ranks(tmp_path):
    world = Others()
    assert with_micro_batch(TrainConfig(), 100, World(), None).micro_batch is None
    world.launched = True
    with pytest.raises(InputError, match="was started on one process, without micro-batches"):
        with_micro_batch(TrainConfig(), 100, world, tmp_path)
    assert with_micro_batch(TrainConfig(), 100, world, None).micro_batch == 13
    assert with_micro_batch(TrainConfig(), 32, world, None, least=8).micro_batch == 8
    assert with_micro_batch(TrainConfig(), 100, world, None, least=8).micro_batch == 13
    with pytest.raises(InputError, match=r"3 processes cannot share a batch of 16 .* such as 5"):
        with_micro_batch(TrainConfig(micro_batch=8), 16, world, None)
    with pytest.raises(InputError, match="3 processes cannot share a batch of 2 images: choose a"):
        with_micro_batch(TrainConfig(), 2, world, None)


@pytest.mark.parametrize("world", [World(), Others()])
def test_a_micro_batch_larger_than_the_batch(world, tmp_path):
    assert with_micro_batch(TrainConfig(micro_batch=5), 16, world, None).micro_batch == 5
    with pytest.raises(InputError, match="`micro_batch` is 17, but a batch has only 16 images"):
        with_micro_batch(TrainConfig(micro_batch=17), 16, world, None)
    earlier = with_micro_batch(TrainConfig(micro_batch=17), 16, World(), tmp_path)
    assert earlier.micro_batch == 17  # versions that did not mind


@pytest.mark.parametrize(
    ("ranks", "threads"),
    [
        ([((0, 1, 2, 3), 4)], [4]),
        ([((0, 1, 2, 3), 4)] * 2, [2, 2]),
        ([((0, 1), 2)] * 3, [1, 1, 1]),
        ([((0, 1), 2), ((2, 3), 2)], [2, 2]),  # bound by mpirun
        ([(range(16), 4)] * 2, [2, 2]),  # a container's limit
    ],
)
def test_the_ranks_of_a_machine_divide_its_threads(ranks, threads):
    ranks = [(frozenset(cores), limit) for cores, limit in ranks]
    assert [threads_of_share(i, ranks) for i in range(len(ranks))] == threads


def test_memory_of_a_failed_call_is_kept():
    """MPI may still write into it."""

    class Failing:
        def Ialltoallv(self, sent, found):
            raise RuntimeError("revoked")

    world = World()
    world.lost_ranks = nullcontext
    shapes = {"fc": {"bias": (3,)}}
    exchange = Exchange(world, None, Failing(), None, shapes, "float32", 1)
    with pytest.raises(RuntimeError, match="revoked"):
        exchange.start("fc", {})
    assert len(exchange._layers) == 1


def test_only_training_is_shared_by_processes(started, capsys, monkeypatch):
    waited = []
    monkeypatch.setattr(time, "sleep", waited.append)
    started(2, 0)
    assert main(["summary"]) == 2
    said = "minialex summary runs in one process, not in 2: start it without mpirun"
    assert said in capsys.readouterr().err
    assert not waited
    started(2, 1)
    assert main(["summary"]) == 2
    assert capsys.readouterr().err == ""  # the first says it,
    assert waited  # before mpirun ends it because of this one
