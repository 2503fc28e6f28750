"""Order: run the experiments asked for, then make the report from all that is on disk."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from minialex.errors import InputError
from minialex.experiments import registry
from minialex.experiments.context import Asked, Context, Stopped
from minialex.experiments.registry import Experiment
from minialex.experiments.report.section import Section
from minialex.utils import checkpoint
from minialex.utils.interrupt import Interrupt

_FILE = "reproduce.json"


@dataclass(frozen=True)
class Chapter:
    """An experiment's section and how it came about."""

    experiment: Experiment
    section: Section
    asked: Asked
    missing: int
    unmet: tuple[str, ...]
    seconds: float


def reproduce(
    names: list[str], asked: Asked, out: Path, say: Callable[[str], None] = print
) -> tuple[Path, str | None]:
    """Run experiments (none named: all), skipping what is done; -> the report, and a signal's name
    if one ended the work before its time.

    Raises InputError for a name that does not exist or an `out` that is not a folder.
    """
    wanted = registry.chosen(names)
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file: choose a folder for the report")
    remembered = _remembered(out)
    out.mkdir(parents=True, exist_ok=True)
    stopped = None
    with Interrupt() as interrupt:
        for one in wanted:
            remembered[one.name] = asked
            _remember(out, remembered)
            say(f"{one.name}: {one.title}")
            try:
                one.run(Context(asked, out, say=say, interrupt=interrupt))
            except Stopped as signal:
                stopped = str(signal)
                break
    return report(out, say), stopped


def report(out: Path, say: Callable[[str], None] = print) -> Path:
    """The report of what is on disk in `out`, computing nothing."""
    from minialex.experiments.report import markdown, page

    remembered = _remembered(out)
    if not remembered:
        raise InputError(
            f"{out} holds no {_FILE}: there is nothing to report before "
            f"`minialex reproduce --out {out}` has run"
        )
    chapters = []
    for one in registry.experiments().values():
        if one.name in remembered:
            context = Context(remembered[one.name], out, report_only=True, say=say)
            section = one.run(context)
            lacking = tuple(context.unmet)
            chapters.append(
                Chapter(one, section, context.asked, context.missing, lacking, context.seconds)
            )
    markdown.write(out, chapters)
    return page.write(out, chapters)


def _remembered(out: Path) -> dict[str, Asked]:
    """What each experiment in `out` was last asked for."""
    path = out / _FILE
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {
            name: Asked(**{**asked, "data": tuple(asked["data"])}) for name, asked in found.items()
        }
    except (ValueError, TypeError, KeyError, AttributeError):
        raise InputError(f"{path} is damaged: remove it, what was computed stays") from None


def _remember(out: Path, remembered: dict[str, Asked]) -> None:
    known: dict[str, Any] = {name: asdict(asked) for name, asked in remembered.items()}
    checkpoint.write_json(out / _FILE, known)
