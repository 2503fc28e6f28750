"""A small GPU suite runs to its end on the stand-in, so that no time on a rare GPU is wasted."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import weakref
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers import rehearsal
from helpers.rehearsal import SMALL

from minialex import backends, models
from minialex.bench import gpu
from minialex.bench.gpu import (
    checks,
    correct,
    memory_bound,
    observed,
    products,
    profile,
    pytorch,
    whole,
)
from minialex.errors import InputError
from minialex.models import registry
from minialex.testing.problems import OPS

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    monkeypatch.setitem(registry._VARIANTS, "tiny", rehearsal.variant())


@pytest.mark.standin
def test_the_suite_runs_all_parts(tmp_path):
    found = gpu.run_suite(tmp_path / "gpu.json", SMALL)
    assert json.loads((tmp_path / "gpu.json").read_text()) == found
    assert {name: part for name, part in found.items() if "failed" in part} == {}
    assert {row["op"] for row in found["ops bf16"]} == {*OPS, "layers"}
    assert len(found["ops bf16 wgmma"]) == len(found["ops bf16 tma"]) == 6
    same = "4 steps of 2 images of tiny, tiny and two towers: the same bits"
    assert found["captured bf16"] == {"summary": same}
    assert found["photographs bf16"]["steps"] == 6
    kernels = found["products bf16"]
    assert {row["layer"] for row in kernels} == {"conv1", "conv2", "conv3", "fc4"}
    assert sum(row["op"] == "input gradient" for row in kernels) == 3
    ways = {"implicit_us", "wgmma_us", "tma_us"}
    assert all(ways <= set(row) for row in kernels if row["layer"] != "fc4")
    assert all(f"{row['fastest']}_us" in row for row in kernels)
    programs = {row["program"] for row in found["steps bf16 2"]}
    ours = {"op by op, implicit", "captured", "captured, whole", "two towers on one device"}
    ours |= {"captured, wgmma", "captured, whole, wgmma", "captured, tma", "captured, whole, tma"}
    assert ours <= programs
    moved = {row["kernel"] for row in found["memory-bound bf16"]}
    assert {"crops", "pool1", "act1, backward", "loss", "update"} <= moved
    assert found["end to end bf16"]["share"] > 0
    assert "FAILED" not in (text := (tmp_path / "gpu.md").read_text())
    assert text.count("| program |") == 2  # training steps and inference


def test_the_parts_that_answer_most_come_first():
    names = [part.name for part in gpu.parts.every(gpu.Plan(checks=True, data="photos"))]
    first = ["ops bf16", "captured bf16", "rates bf16", "ops bf16 wgmma", "ops bf16 tma"]
    first += ["steps bf16 128", "steps bf16 512", "steps bf16 2048"]
    first += ["products bf16", "memory-bound bf16", "ops tf32"]
    assert names[: len(first)] == first
    assert len(names) == len(set(names))
    needs = {part.name: part.needs for part in gpu.parts.every(gpu.Plan())}
    at = [*needs].index
    assert all(at(needs[name]) < at(name) for name in needs if needs[name])


@pytest.mark.standin
def test_large_batches_are_timed_with_the_fastest_steps_only():
    rows = gpu.parts.steps.steps("bf16", 2, replace(SMALL, all_up_to=1), ("wgmma",))
    ours = {row["program"] for row in rows if "PyTorch" not in row["program"]}
    whole = {"captured, whole", "captured, whole, bytes from the host", "captured, whole, wgmma"}
    assert ours == whole


def part(name, seconds=300.0):
    return gpu.parts.Part(name, seconds, None)


def failed(found):
    return {name for name, part in found.items() if isinstance(part, dict) and "failed" in part}


@pytest.mark.standin
def test_a_wrong_result_is_reported_and_not_timed(tmp_path, monkeypatch):
    def wrong(b, op, dtype, limit):
        return op != "dense", "off by 1"

    monkeypatch.setattr(gpu.parts.correct, "compare_op", wrong)
    monkeypatch.setattr(gpu.parts.correct, "correctness", lambda *given: {})
    found = gpu.run_suite(tmp_path / "gpu.json", SMALL, ["ops bf16", "steps", "captured"])
    assert failed(found) == {"ops bf16", "steps bf16 2", "captured bf16"}
    assert found["ops bf16"]["failed"] == "AssertionError: dense: off by 1"
    assert len(found["ops bf16"]["rows"]) == len(OPS) + 1  # the others have been compared
    assert found["steps bf16 2"] == {"failed": "not run, because ops bf16 failed"}
    assert "FAILED: ops bf16: AssertionError: dense" in (tmp_path / "gpu.md").read_text()


@pytest.mark.standin
def test_after_an_op_that_loses_the_device_another_process_compares_the_rest(tmp_path, monkeypatch):
    wrong, lost, starts, run = {"hinge", "sgd_update"}, [], [], gpu._run

    def synchronize(self=None):
        if lost:
            raise RuntimeError("an illegal memory access was encountered")

    def compare(b, op, dtype, limit):
        if op in wrong:
            lost.append(op)
        synchronize()
        return True, ""

    def in_a_new_process(part, *given):
        lost.clear()
        starts.append(part.name)
        return run(part, *given)

    monkeypatch.setattr(gpu, "_run", in_a_new_process)
    monkeypatch.setattr(correct, "compare_op", compare)
    monkeypatch.setattr(correct, "correctness", lambda *given: {})
    monkeypatch.setattr(type(backends.get("cupy")), "synchronize", synchronize)
    found = gpu.run_suite(tmp_path / "gpu.json", SMALL, ["ops bf16"])
    assert starts == ["ops bf16"] * 3 + ["ops bf16 wgmma", "ops bf16 tma"]
    part = found["ops bf16"]
    assert sorted(row["op"] for row in part["rows"]) == sorted([*OPS, "layers"])
    assert {row["op"] for row in part["rows"] if not row["right"]} == wrong
    assert part["failed"].startswith("AssertionError: hinge: RuntimeError: an illegal memory")
    assert part["complete"]


def test_an_op_that_no_step_needs_does_not_stop_the_timing():
    rows = [{"op": "hinge", "right": False}, {"op": "dense", "right": True}]
    part = {"failed": "AssertionError: hinge", "complete": True, "rows": rows}
    assert gpu.parts.right({"ops bf16": part}, "ops bf16")
    assert not gpu.parts.right({"ops bf16": {**part, "complete": False}}, "ops bf16")
    rows[1]["right"] = False
    assert not gpu.parts.right({"ops bf16": part}, "ops bf16")
    assert not gpu.parts.right({}, "ops bf16")


@pytest.mark.parametrize("way", [None, "tma"])
@pytest.mark.parametrize(("slow", "fine"), [("hinge", True), ("layers", False)])
def test_an_op_that_did_not_end_in_time_stops_the_timing_only_if_a_step_needs_it(way, slow, fine):
    ops = correct.compared(way)
    rows = [{"op": op, "right": True} for op in ops if op != slow]
    part = {"failed": "stopped after 90 s", "timed_out": True, "rows": rows}
    name = " ".join(filter(None, ("ops bf16", way)))
    assert gpu.parts.right({name: part}, name) == fine
    assert not gpu.parts.right({name: {**part, "rows": rows[:-2]}}, name)


@pytest.mark.standin
@pytest.mark.parametrize("hangs", [False, True])
def test_after_a_timeout_another_process_compares_the_rest(tmp_path, monkeypatch, hangs):
    """And last the op that the first stood at, which may only have been slow to compile."""
    _, _, third, *after = ops = correct.compared()
    times = []

    def run(part, plan, found, seconds):
        """The first process stands still at the third op, the second too if it `hangs`."""
        times.append(seconds)
        rows = []
        for row in part.run(plan, found):
            if row["op"] == third and (hangs or len(times) == 1):
                return {"rows": rows, "failed": "stopped after 90 s", "timed_out": True}
            rows.append(row)
        return rows

    monkeypatch.setattr(correct, "compare_op", lambda *given: (True, ""))
    monkeypatch.setattr(correct, "correctness", lambda *given: {})
    monkeypatch.setattr(gpu.parts, "every", lambda plan, every=gpu.parts.every: every(plan)[:1])
    monkeypatch.setattr(gpu, "_run", run)
    part = gpu.run_suite(tmp_path / "gpu.json", SMALL)["ops bf16"]
    assert times == pytest.approx([90, 45], abs=5)
    compared = [row["op"] for row in (part["rows"] if hangs else part)]
    assert compared == [*ops[:2], *after, *([] if hangs else [third])]


@pytest.mark.standin
def test_wrong_warpgroup_products_are_not_timed(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(gpu.parts.steps, "steps", lambda *given: told.append(given[-1]))
    monkeypatch.setattr(gpu.parts.products, "products", lambda *given: told.append(given[-1]))
    rows = [{"op": "dense", "right": True}]
    found = {"suite": "gpu", "ops bf16": rows, "ops bf16 wgmma": {"failed": "hung", "rows": []}}
    for expected in ((), ("wgmma",)):
        (tmp_path / "gpu.json").write_text(json.dumps(found))
        gpu.run_suite(tmp_path / "gpu.json", SMALL, ["steps", "products"])
        assert told == [expected] * 2
        told.clear()
        found["ops bf16 wgmma"] = rows


@pytest.mark.standin
def test_parts_without_time_are_listed_and_can_follow(tmp_path, monkeypatch):
    out = tmp_path / "gpu.json"
    found = gpu.run_suite(out, replace(SMALL, budget=-1.0))
    assert found["left out"][0] == "ops bf16"
    assert "Not run for lack of time: ops bf16" in out.with_suffix(".md").read_text()
    monkeypatch.setattr(gpu.parts, "rates", lambda *given: {"operations_per_second": 1.0})
    found = gpu.run_suite(out, SMALL, ["rates"])
    assert found["rates bf16"] == {"operations_per_second": 1.0}
    assert "rates bf16" not in found["left out"]
    assert found["left out"][0] == "ops bf16"  # this call did not choose it
    assert [
        p.name
        for p in gpu._chosen(gpu.parts.every(SMALL), ["failed"], {"captured bf16": {"failed": ""}})
    ] == ["captured bf16"]


@pytest.mark.standin
def test_a_second_call_continues_with_what_has_no_result(tmp_path, monkeypatch):
    out, ran = tmp_path / "gpu.json", []

    def run(part, plan, found, seconds):
        ran.append(part.name)
        return {"failed": "as rehearsed", "rows": []} if part.name == bad else [{"op": part.name}]

    names, bad = ["rates", "steps", "products"], "steps"
    monkeypatch.setattr(gpu.parts, "every", lambda plan: [part(name) for name in names])
    monkeypatch.setattr(gpu, "_run", run)
    first = gpu.run_suite(out, SMALL)
    assert ran == names
    assert failed(first) == {"steps"}
    names.append("inference")
    bad = ""
    found = gpu.run_suite(out, SMALL)
    assert ran[3:] == ["steps", "inference"]
    assert failed(found) == set()
    assert found == json.loads(out.read_text()) == {**first, **found}
    assert gpu.run_suite(out, SMALL, ["rates"]) == found
    assert ran[5:] == ["rates"]


@pytest.mark.standin
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "is no result of the suite: choose another file"),
        ('{"training": 1}', "is no result of the suite: choose another file"),
        ('{"suite": "gpu", "device": {"name": "other"}}', "has results of other, this device is "),
    ],
)
def test_a_file_with_other_contents_is_kept(tmp_path, content, message):
    out = tmp_path / "gpu.json"
    out.write_text(content)
    with pytest.raises(InputError, match=message):
        gpu.run_suite(out, SMALL)
    assert out.read_text() == content


@pytest.mark.parametrize("word", ["rate bf16", "", "fail"])
def test_words_that_choose_no_part(tmp_path, word):
    out = tmp_path / "gpu.json"
    with pytest.raises(InputError, match=f"unknown part '{word}': .*choose from captured bf16, "):
        gpu.run_suite(out, SMALL, ["rates", word])
    assert not out.exists()
    assert gpu._chosen(gpu.parts.every(SMALL), ["failed", "left-out"], {}) == []


# ------------------------------------------------------------------------------ the rehearsal

FAILURES = ("raises", "is-wrong", "hangs", "exits", "is-killed", "has-no-memory", "ends-well")
ROW = {"op": "first", "right": True}


@pytest.fixture
def _failing(monkeypatch):
    """Parts of other processes that fail as they are called."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(ROOT), str(ROOT / "tests"))))
    monkeypatch.setattr(gpu.parts, "every", lambda plan: [part(f"ops {name}") for name in FAILURES])


PROCESSES = replace(SMALL, separate=True, prepare="helpers.rehearsal:fail")


@pytest.mark.slow
@pytest.mark.standin
@pytest.mark.usefixtures("_failing")
def test_whatever_happens_to_a_part_the_others_run(tmp_path, monkeypatch):
    """Each in its own process, with the rows that a part had found before it failed."""
    monkeypatch.setenv("MINIALEX_TEST_HANGS", "0.1")
    out, seen = tmp_path / "gpu.json", []
    write = gpu._write

    def noted(path, found):
        write(path, found)
        seen.append(json.loads(path.read_text()))

    monkeypatch.setattr(gpu, "_write", noted)
    found = gpu.run_suite(out, PROCESSES)
    assert found["ops ends-well"] == [ROW]
    said = {name: found[f"ops {name}"]["failed"] for name in FAILURES[:-1]}
    assert said["raises"] == "ValueError: as rehearsed"
    assert said["is-wrong"] == "AssertionError: off by 1"
    assert said["hangs"].startswith("stopped after 300 s: Timeout (")
    assert {name for name in said if "timed_out" in found[f"ops {name}"]} == {"hangs"}
    assert re.search(r"rehearsal\.py\", line \d+ in _fail$", said["hangs"], re.M)  # where it was
    assert said["exits"].startswith("ended with status 3: the last words")
    assert said["is-killed"].startswith("killed by signal 9")
    assert said["has-no-memory"] == "MemoryError: Out of memory allocating 1 bytes"
    assert all(found[f"ops {name}"]["rows"] == [ROW] for name in said)
    assert len(seen) == len(FAILURES) + 1
    assert [len(s["seconds"]) for s in seen[:-1]] == list(range(1, len(FAILURES) + 1))
    text = out.with_suffix(".md").read_text()
    assert text.count("FAILED:") == len(said)
    assert text.count("## ops") == len(FAILURES)


SAID = {
    "raises": "ValueError: as rehearsed",
    "is-wrong": "AssertionError: off by 1",
    "hangs": "stopped after ",
    "has-no-memory": "MemoryError: Out of memory",
    "is-killed": "killed by signal 9",
}
EVERYTHING = replace(
    SMALL, checks=True, data="shapes:60", train_precisions=("bf16",), separate=True, budget=1e9
)


@pytest.mark.slow
@pytest.mark.standin
@pytest.mark.parametrize("number", range(len(gpu.parts.every(EVERYTHING))))
def test_each_real_part_fails_in_turn(tmp_path, monkeypatch, number):
    """In a process of its own; the others have made-up results. Ways to fail take turns."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(ROOT), str(ROOT / "tests"))))
    ways = os.environ.get("MINIALEX_TEST_FAILURES", [*SAID][number % len(SAID)]).split(",")
    monkeypatch.setenv("MINIALEX_TEST_HANGS", "0.1")
    every = gpu.parts.every(EVERYTHING)
    name, run, write = every[number].name, gpu._run, gpu._write
    plan = replace(EVERYTHING, prepare="helpers.rehearsal:fail_in_a_real_part")
    on_disk = []

    def one(part, plan, found, seconds):
        rows = [{"op": "dense", "right": True, "milliseconds": 1.5}]
        return run(part, plan, found, seconds) if part.name == name else rows

    def noted(path, found):
        write(path, found)
        on_disk.append((json.loads(path.read_text()), path.with_suffix(".md").read_text()))

    monkeypatch.setattr(gpu, "_run", one)
    monkeypatch.setattr(gpu, "_write", noted)
    for how in ways:
        monkeypatch.setenv("MINIALEX_TEST_FAILS", how)
        on_disk.clear()
        found = gpu.run_suite(tmp_path / f"{how}.json", plan)
        depend = {part.name for part in every if part.needs == name}
        assert failed(found) == {name} | depend
        assert found[name]["failed"].startswith(SAID[how])
        assert found["left out"] == []
        assert len(on_disk) == len(every) + 1
        for done, ((values, text), part) in enumerate(zip(on_disk, every, strict=False), 1):
            assert [p.name for p in every if p.name in values] == [p.name for p in every[:done]]
            assert f"## {part.name}\n" in text or f"FAILED: {part.name}: " in text


@pytest.mark.slow
@pytest.mark.standin
@pytest.mark.usefixtures("_failing")
def test_a_part_that_does_not_end(tmp_path, monkeypatch):
    """It ends itself after its seconds; if it cannot do even that, the suite kills it."""
    monkeypatch.setattr(gpu, "_LATE", 300.0)
    said = gpu._run(part("ops hangs"), PROCESSES, {}, 0.1)["failed"]
    assert said.startswith("stopped after 0 s: Ti")

    begun = tmp_path / "begun"

    class Process(subprocess.Popen):
        def wait(self, timeout=None):
            """The time begins once the part stands still."""
            for _ in range(3000):
                if begun.exists():
                    break
                time.sleep(0.1)
            return super().wait(timeout)

    monkeypatch.setenv("MINIALEX_TEST_TELLS", str(begun))
    monkeypatch.setattr(gpu.subprocess, "Popen", Process)
    monkeypatch.setattr(gpu, "_LATE", 2.0)
    assert gpu._run(part("ops stops"), PROCESSES, {}, 0.1)["failed"].startswith("stopped after 0 s")


SUITE = """
from helpers.rehearsal import SMALL
from minialex.bench import gpu
from dataclasses import replace
gpu.parts.every = lambda plan: [gpu.parts.Part("ops hangs", 300.0, None)]
gpu.run_suite("gpu.json", replace(SMALL, separate=True, prepare="helpers.rehearsal:fail"))
"""


@pytest.mark.slow
@pytest.mark.standin
@pytest.mark.usefixtures("_failing")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_suite_that_is_told_to_end_leaves_no_process(tmp_path, monkeypatch, number):
    monkeypatch.setenv("MINIALEX_TEST_TELLS", str(tmp_path / "part"))
    # where the tests run in the background, children would ignore Ctrl-C, or the end of a terminal
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    heard += "signal.signal(signal.SIGHUP, signal.SIG_DFL); "
    program = heard + "import cuda_on_cpu; cuda_on_cpu.install()" + SUITE
    suite = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path)
    while not (tmp_path / "part").exists():
        assert suite.poll() is None
        time.sleep(0.05)
    suite.send_signal(number)
    assert suite.wait() in (128 + number, -number)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "part").read_text()), 0)


@pytest.mark.slow
@pytest.mark.standin
def test_a_rehearsal_of_the_suite(tmp_path, monkeypatch):
    """From the command line to the tables, on the stand-in, a process for each part."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(ROOT), str(ROOT / "tests"))))
    plan = replace(SMALL, separate=True, prepare="helpers.rehearsal:stand_in")
    found = gpu.run_suite(tmp_path / "gpu.json", plan)
    assert failed(found) == set()
    assert found["left out"] == []
    assert {part.name for part in gpu.parts.every(plan)} <= set(found)


@pytest.mark.standin
def test_small_arrays_are_timed_in_memory_and_not_in_the_cache(monkeypatch):
    """Copies of them, together more than twice the L2 cache, take turns."""
    cache = 2000
    monkeypatch.setattr(gpu.plan.device, "l2_cache", lambda index: cache)
    rows = [*memory_bound.memory_bound("bf16", {}, SMALL), *products.products("bf16", {}, SMALL)]
    assert {row["copies"] for row in rows} == {1, 2, 4}
    for row in rows:
        count, size = row["copies"], row["bytes"]
        assert (count - 1) * size <= 2 * cache < count * size
    for _, _, make in memory_bound._listed(backends.get("cupy", 0, "bf16"), SMALL):
        runs = make(), make()
        one, other = ({a.data.ptr for a in run.args if hasattr(a, "shape")} for run in runs)
        assert one != other or not one  # those of a backward pass are in what forward kept


def test_the_first_timing_of_a_process_begins_when_the_device_has_worked_for_a_while(monkeypatch):
    now, called = [50.0], []

    def run():
        now[0] += 0.25
        called.append(now[0])

    monkeypatch.setattr(gpu.plan, "_first_timing", cache(gpu.plan._first_timing.__wrapped__))
    monkeypatch.setattr(gpu.plan.time, "perf_counter", lambda: now[0])
    host, plan = SimpleNamespace(synchronize=lambda: None), replace(SMALL, warm=1.0)
    assert gpu.plan.timed(host, {"op": run}, plan) == {"op": 0.25}
    assert len(called) == 2 + 4 + 1  # compiled, a second of work, timed
    gpu.plan.timed(host, {"op": run}, plan)
    assert len(called) == 7 + 2 + 1


@pytest.mark.standin
def test_training_from_a_packed_set_is_timed_after_the_batches_read_ahead(monkeypatch):
    fed, begun = [], []
    feed, clock = whole.Whole.fed, time.perf_counter
    monkeypatch.setattr(
        whole.Whole, "fed", lambda self, *given: [fed.append(1), feed(self, *given)]
    )
    monkeypatch.setattr(whole, "timed", lambda b, runs, plan: dict.fromkeys(runs, 1.0))
    clocks = SimpleNamespace(perf_counter=lambda: [begun.append(len(fed)), clock()][1])
    monkeypatch.setattr(whole, "time", clocks)
    whole.end_to_end("bf16", 2, replace(SMALL, steps=3))
    assert begun == [12, 15]


def test_runs_take_turns_and_write_their_own_memory():
    called, there = [], weakref.WeakSet()

    class Result:
        pass

    def run(name):
        called.append(name)
        there.add(result := Result())
        most.append(len(there))
        return result

    most: list[int] = []
    host = SimpleNamespace(compile=lambda step: None, synchronize=lambda: None)
    runs = {"op": [partial(run, name) for name in "abc"]}
    seconds = gpu.plan.on_device(host, runs, replace(SMALL, repeats=4))
    assert seconds["op"] > 0
    assert "".join(called) == "abcabc" * 3  # four or more calls: twice to warm up, once timed
    assert max(most) == 3


def test_pytorchs_step_learns():
    """PyTorch's code on the CPU, as far as it runs there."""
    torch = pytest.importorskip("torch")
    step = pytorch._step(torch, "cifar10", "bf16", 4, {}, compiled=False, device="cpu")
    step()
    network, x, _, context = pytorch._made(torch, "cifar10", "bf16", 2, {}, "cpu")
    with context():
        assert network(x).dtype == torch.bfloat16


def test_a_wrong_kernel_is_not_timed(tmp_path, monkeypatch):
    from minialex.backends.cuda.backend import CupyBackend

    right = CupyBackend.convolution
    monkeypatch.setattr(
        CupyBackend, "convolution", lambda self, *a, **k: self.scale(right(self, *a, **k), 1.1)
    )
    with pytest.raises(AssertionError, match="conv1 forward: off by"):
        correct.correctness("bf16")


@pytest.mark.standin
def test_captured_steps_with_other_bits_are_reported(monkeypatch):
    from minialex.backends.cuda.compiled_step import CompiledStep

    right = CompiledStep.start

    def mistaken(self, state, batch, rates):
        return right(self, state, batch, replace(rates, weight=2 * rates.weight))

    monkeypatch.setattr(CompiledStep, "start", mistaken)
    with pytest.raises(AssertionError, match="tiny on 0, these are not the same: conv1 weight, "):
        whole.same_bits("bf16", SMALL)


def test_operations_of_the_papers_network():
    listed = list(products.costs(models.get("alexnet").network, 1, 2))
    forward = sum(operations for _, op, operations, _ in listed if op == "forward")
    assert forward == 2 * sum(row.connections for row in models.get("alexnet").network.rows())
    table = products.predictions(1e12, 1e12, batch=1)
    assert table.count("\n") == 2 + len(listed)
    assert ("conv1", "input gradient") not in {(name, op) for name, op, _, _ in listed}


@pytest.mark.standin
def test_checks_and_training_are_parts_too(tmp_path, monkeypatch):
    """The programs that they start take minutes and are replaced."""
    started = []

    def run(command, needed, environment=None):
        started.append(command)
        assert (checks._ROOT / needed).exists()
        return subprocess.CompletedProcess(command, 0, "step 9  loss 0.04\nERROR SUMMARY: 0", "")

    monkeypatch.setattr(checks, "_run", run)
    monkeypatch.setattr(checks.shutil, "which", lambda program: program)
    small = {"checked": (), "precisions": ("bf16",), "checks": True, "data": "shapes:60"}
    small |= {"train_precisions": ("bf16",), "train_epochs": 1}
    names = ("overfit", "sanitizer", "tests", "training")
    found = gpu.run_suite(tmp_path / "gpu.json", replace(SMALL, **small), names)
    assert {name: part for name, part in found.items() if "failed" in part} == {}
    assert found["overfit two towers"] == {"summary": "step 9  loss 0.04"}
    assert found["sanitizer racecheck"] == {"summary": "ERROR SUMMARY: 0"}
    assert found["training bf16"][0]["epoch"] == 1
    assert len(started) == 1 + 5 + 3
    assert "## overfit fp16" in (tmp_path / "gpu.md").read_text()


def test_a_failed_check_shows_the_programs_output(monkeypatch):
    limits = {}

    def run(command, needed, environment=None):
        limits.update(environment or {})
        return subprocess.CompletedProcess(command, 1, "2 failed, 3 passed", "")

    monkeypatch.setattr(checks, "_run", run)
    in_a_minute = partial(checks.tests, replace(SMALL, budget=60.0))
    for check in (in_a_minute, partial(checks.overfit, "fp32")):
        with pytest.raises(RuntimeError, match="2 failed"):
            check()
    assert limits["MINIALEX_TEST_GPU_SECONDS"] == "30"  # and 30 for the last test


@pytest.mark.standin
@pytest.mark.parametrize("tool", ["profile", "sanitizer"])
def test_what_nvidias_tools_are_given_runs(monkeypatch, tool):
    commands, compared = [], []

    def run(command, **options):
        commands.append(command)
        return subprocess.CompletedProcess(command, 0, "ERROR SUMMARY: 0 errors", "")

    with monkeypatch.context() as patch:  # the stand-in's compiler needs both
        patch.setattr(checks.shutil, "which", lambda program: program)
        patch.setattr(checks.subprocess, "run", run)
        if tool == "profile":
            profile.convolutions(SMALL)
        else:
            checks.sanitizer("memcheck")
    [command] = commands
    at = command.index(sys.executable)
    assert command[at + 1 : at + 3] == ["-m", observed.__name__]
    monkeypatch.setattr(sys, "argv", command[at + 2 :])
    monkeypatch.setitem(registry._VARIANTS, "cifar10", rehearsal.variant())
    monkeypatch.setattr(correct, "ops", lambda precision: compared.append(precision) or [])
    machine = backends.get("cupy").xp.machine
    before = machine.launches
    observed.main()
    assert machine.launches > before + 10
    assert compared == ([] if tool == "profile" else ["bf16"])


def test_a_profiler_that_fails_is_reported(monkeypatch):
    def run(command, **options):
        return subprocess.CompletedProcess(command, 1, "==ERROR== ERR_NVGPUCTRPERM", "")

    monkeypatch.setattr(profile.shutil, "which", lambda program: program)
    monkeypatch.setattr(profile.subprocess, "run", run)
    with pytest.raises(RuntimeError, match="ERR_NVGPUCTRPERM"):
        profile.convolutions(SMALL)


def test_a_metric_that_the_profiler_does_not_know_is_left_out(monkeypatch):
    """It ends with an error then, and no kernel is profiled."""
    asked = []

    def run(command, **options):
        asked.append(command[command.index("--metrics") + 1].split(","))
        if (name := "lts__t_sector_hit_rate.pct") in asked[-1]:
            said = f"==ERROR== Failed to find metric regex:^{name[:-4]}(\\.(pct|ratio))?$\n"
            return subprocess.CompletedProcess(command, 1, said, "")
        return subprocess.CompletedProcess(command, 0, '==PROF==\n"ID"\n"0"\n', "")

    monkeypatch.setattr(profile.shutil, "which", lambda program: program)
    monkeypatch.setattr(profile.subprocess, "run", run)
    found = profile.convolutions(SMALL)
    assert found == {"summary": "2 lines, without lts__t_sector_hit_rate.pct", "csv": '"ID"\n"0"'}
    assert len(asked) == 2
    assert len(asked[1]) == len(asked[0]) - 1


def test_the_example_accepts_the_options_of_the_suite():
    command = [sys.executable, "examples/overfit_small.py", "--help"]
    words = checks._run(command, command[1]).stdout
    assert all(option in words for option in ("--backend", "--precision", "--devices"))
    with pytest.raises(FileNotFoundError, match="in a clone"):
        checks._run(command, "examples/none.py")


def test_programs_of_a_clone_find_its_package_and_the_kernels(tmp_path, monkeypatch):
    """It need not be installed; an example alone would look for it only in its own folder."""
    monkeypatch.chdir(tmp_path)
    for name, value in {"PYTHONPATH": "more", "MINIALEX_KERNELS": "kernels"}.items():
        monkeypatch.setenv(name, value)
    command = [sys.executable, "-c", "import os; print(*map(os.getenv, os.sys.argv[1:]))"]
    found = checks._run([*command, "PYTHONPATH", "MINIALEX_KERNELS"], "examples").stdout
    assert found.split() == [f"{ROOT}{os.pathsep}more", f"{tmp_path / 'kernels'}"]


COLLECT = """
import sys, pytest

class Missing:
    names = "array_api_strict cv2 jinja2 matplotlib onnx onnxruntime simplejpeg skimage sklearn"
    names = {*names.split(), "starlette", "tensorboardX", "torch", "uvicorn"}

    def find_spec(self, name, *more):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
raise SystemExit(pytest.main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.standin
def test_the_tests_on_a_gpu_need_no_optional_package():
    """One that a test file imports without asking would end them all before the first."""
    options = ["-q", "--collect-only", "-n", "0", "-p", "no:cacheprovider"]
    command = [sys.executable, "-c", COLLECT, *options, "-m", "gpu and not slow"]
    done = checks._run(command, "tests")
    assert done.returncode == 0, done.stdout[-3000:]
    assert done.stdout.count("tests/backends/cuda/") > 100


def test_pytorchs_network_computes_the_same():
    torch = pytest.importorskip("torch")
    from minialex.bench.pytorch import network_in_torch

    network = models.get("alexnet-torchvision").network
    theirs = network_in_torch(network)
    assert sum(p.numel() for p in theirs.parameters()) == network.parameter_count
    size = network.input_shape[0]
    assert theirs(torch.zeros(1, 3, size, size)).shape == (1, 1000)
