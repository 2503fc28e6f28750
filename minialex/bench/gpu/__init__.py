"""The GPU suite: checks and times every kernel and the training step of the paper's network.

`run_suite(out)` compares the kernels with the generic backend first and times only correct ones.
Each part runs in a process of its own with a time limit: a part that fails, hangs or is killed
costs the others nothing. JSON and Markdown are written after each part.
"""

import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from minialex.bench.gpu import checks, one_part, parts, pytorch, tables
from minialex.bench.gpu.parts import Part
from minialex.bench.gpu.plan import Plan
from minialex.errors import InputError, unknown
from minialex.utils import atomic

__all__ = ["Plan", "checks", "run_suite"]

_SHORTEST = 10.0  # seconds left that a part is started for
_EARLIER = ("failed", "left-out")  # words for parts by their result in an earlier call
_LATE = 15.0  # seconds after its time when a part that has not ended itself is killed
_OVER = "Timeout ("  # faulthandler's first word when it ends a part, with status 1
_TAIL = 3000  # characters of the output of a part that ended without a result


def run_suite(
    out: Path | str, plan: Plan | None = None, only: Sequence[str] = ()
) -> dict[str, Any]:
    """Run all parts; -> {part: result}, also written to `out` as JSON and as Markdown beside it.

    A part that does not end well becomes {"failed": message, "rows": what it had found}, with
    "timed_out" if its time was over; parts for which there was no time are listed under "left out".
    If `out` has results of an earlier call, this one continues: it runs the parts that have not
    ended well, and keeps the others. With `only`, it runs those whose names start with one of these
    words ("failed" and "left-out": by their result in `out`). InputError for a word that no part's
    name starts with, and if `out` has other contents, or results of another device.
    """
    plan, path, begun = plan or Plan(), Path(out), time.monotonic()
    atomic.require_writable(path)
    device = checks.environment()
    found = _before(path, device)
    listed = _chosen(parts.every(plan), only, found)
    found = {"suite": "gpu", "device": {}, "seconds": {}, "left out": [], **found}
    names = {part.name for part in listed}
    found["left out"] = [name for name in found["left out"] if name not in names]
    found["device"] = device
    for part in listed:
        found.pop(part.name, None)
    for part in listed:
        start = time.monotonic()
        left = plan.budget - (start - begun)
        if left < _SHORTEST:
            found["left out"].append(part.name)
        elif part.needs and not parts.right(found, part.needs):
            found[part.name] = {"failed": f"not run, because {part.needs} failed"}
        else:
            _run_to_its_end(part, plan, found, left)
            found["seconds"][part.name] = round(time.monotonic() - start, 1)
        _say(part.name, found, time.monotonic() - begun)
        _write(path, found)
    _write(path, found)
    return found


def _run_to_its_end(part: Part, plan: Plan, found: dict[str, Any], left: float) -> None:
    """Run a part; a process that has lost the device, or stands still, leaves the rest to another.

    After the part's time another has half as much, once.
    """
    begun = time.monotonic()
    end, more = begun + min(part.seconds, left), part.continues
    found[part.name] = _run(part, plan, found, end - begun)
    while isinstance(result := found[part.name], dict):
        now = time.monotonic()
        if result.get("timed_out") and more:
            end, more = min(now + part.seconds / 2, begun + left), False
        elif not result.get("lost"):
            return
        if end - now < _SHORTEST:
            return
        found[part.name] = _run(part, plan, found, end - now)


def _before(path: Path, device: dict[str, Any]) -> dict[str, Any]:
    """The results of earlier calls on this device."""
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict) or found.get("suite") != "gpu":
        raise InputError(f"{path} is no result of the suite: choose another file")
    before = found.get("device", {}).get("name", device["name"])
    if before != device["name"]:
        raise InputError(
            f"{path} has results of {before}, this device is {device['name']}: choose another file"
        )
    return found


def _chosen(listed: Sequence[Part], only: Sequence[str], found: dict[str, Any]) -> list[Part]:
    names = [part.name for part in listed]
    for word in only:
        known = word in _EARLIER or any(name.startswith(word) for name in names)
        if not word or not known:
            raise unknown("part", word, [*_EARLIER, *names])

    def wanted(part: Part) -> bool:
        before = found.get(part.name)
        failed = isinstance(before, dict) and "failed" in before
        left_out = part.name in found.get("left out", ())
        if not only:
            return failed or before is None
        return any(
            part.name.startswith(word)
            or (word == "failed" and failed)
            or (word == "left-out" and left_out)
            for word in only
        )

    return [part for part in listed if wanted(part)]


def _run(part: Part, plan: Plan, found: dict[str, Any], seconds: float) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        ended: dict[str, Any] = {}
        if plan.separate:
            ended = _in_a_process(part, plan, found, seconds, Path(folder), out)
        else:
            one_part.run(part.name, plan, found, out)
            _release()
        written = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    if "result" in written:
        return written["result"]
    return {"rows": [], **ended, **written}


def _in_a_process(
    part: Part, plan: Plan, found: dict[str, Any], seconds: float, folder: Path, out: Path
) -> dict[str, Any]:
    """Run a part; -> why it has left no result, if it has not, and whether its time was over."""
    request, log = folder / "request.json", folder / "log.txt"
    own = asdict(replace(plan, budget=seconds))
    given = {"name": part.name, "plan": own, "found": found, "out": str(out)}
    atomic.write_json(request, {**given, "seconds": seconds, "prepare": plan.prepare})
    command = [sys.executable, "-m", "minialex.bench.gpu.child", str(request)]
    with log.open("wb") as file, _signals_raise():
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code = process.wait(seconds + _LATE)
        except subprocess.TimeoutExpired:
            code = None
        finally:  # also what it has started
            _end(process)
    text = log.read_text(encoding="utf-8", errors="replace").strip()
    ended: dict[str, Any] = {}
    if code is None or (code == 1 and _OVER in text):
        why, ended["timed_out"] = f"stopped after {seconds:.0f} s", True
        text = text[text.rfind(_OVER) :][:_TAIL]  # where it was: the innermost call is first
    else:
        why = f"killed by signal {-code}" if code < 0 else f"ended with status {code}"
    return {"failed": f"{why}: {text[-_TAIL:]}" if text else why, **ended}


@contextmanager
def _signals_raise() -> Iterator[None]:
    """SIGTERM and SIGHUP raise SystemExit: by default they would end the suite and not its part."""

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) == signal.SIG_DFL:
                before[number] = signal.signal(number, leave)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(process: subprocess.Popen) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _say(name: str, found: dict[str, Any], seconds: float) -> None:
    part = found.get(name)
    if name in found["left out"]:
        said = "left out"
    elif isinstance(part, dict) and "failed" in part:
        said = f"FAILED: {part['failed'][:300]}"
    else:
        said = "ok"
    print(f"{seconds:6.0f} s  {name}: {said}", file=sys.stderr, flush=True)


def _release() -> None:
    """Free the device's memory for the next part, if it runs in this process."""
    from minialex.backends.cuda.device import library

    gc.collect()
    library().get_default_memory_pool().free_all_blocks()
    pytorch.release()


def _write(path: Path, found: dict[str, Any]) -> None:
    atomic.write_json(path, found)
    atomic.write_text(path.with_suffix(".md"), tables.markdown(found))
