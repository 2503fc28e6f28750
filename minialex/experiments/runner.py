"""`minialex reproduce`: run experiments, and make the report from all results on disk."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from minialex.errors import InputError
from minialex.experiments import registry
from minialex.experiments.cache import copy_cells
from minialex.experiments.context import Context
from minialex.experiments.options import Options
from minialex.experiments.registry import Experiment
from minialex.experiments.report.section import Section
from minialex.experiments.training import Stopped
from minialex.utils import atomic
from minialex.utils.interrupt import Interrupt

_FILE = "reproduce.json"


@dataclass(frozen=True)
class Chapter:
    """One experiment in the report: its section, its options, and what is still missing."""

    experiment: Experiment
    section: Section
    options: Options
    not_run: int
    not_installed: tuple[str, ...]
    seconds: float


def reproduce(
    names: list[str],
    options: Options,
    out: Path,
    log: Callable[[str], None] = print,
    keep: Path | None = None,
) -> tuple[Path, str | None]:
    """Run experiments (all if none is named), reusing the results in `out`; -> the report's path,
    and the name of the signal that stopped the work, if one did.

    With `keep`, results in that folder are reused too, and the new ones' small files copied there.
    Raises InputError for an unknown name, or if `out` is not a folder.
    """
    wanted = registry.select(names)
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file: choose a folder for the report")
    if keep is not None and keep.exists() and not keep.is_dir():
        raise InputError(f"{keep} is a file: choose a folder to keep results in")
    known = _load_options(out)
    out.mkdir(parents=True, exist_ok=True)
    stopped = None
    if keep is not None:
        copy_cells(keep, out / "cells")
    with Interrupt() as interrupt:
        for experiment in wanted:
            known[experiment.name] = options
            _save_options(out, known)
            log(f"{experiment.name}: {experiment.title}")
            try:
                experiment.run(Context(options, out, log=log, interrupt=interrupt, keep=keep))
            except Stopped as signal:
                stopped = str(signal)
                break
    return report(out, log), stopped


def report(out: Path, log: Callable[[str], None] = print) -> Path:
    """Make the report from the results in `out`, computing none; -> its path."""
    from minialex.experiments.report import markdown, page

    known = _load_options(out)
    if not known:
        raise InputError(
            f"{out} has no {_FILE}, so there is nothing to report: "
            f"run `minialex reproduce --out {out}` first"
        )
    chapters, experiments = [], registry.experiments()
    if unknown := sorted(set(known) - set(experiments)):
        log(f"not in the report: {', '.join(unknown)} (code of your own: give its file to add it)")
    for experiment in experiments.values():
        if experiment.name in known:
            context = Context(known[experiment.name], out, report_only=True, log=log)
            section = experiment.run(context)
            chapters.append(
                Chapter(
                    experiment,
                    section,
                    context.options,
                    context.not_run,
                    tuple(context.not_installed),
                    context.seconds,
                )
            )
    markdown.write(out, chapters)
    return page.write(out, chapters)


def _load_options(out: Path) -> dict[str, Options]:
    """The options that each experiment in `out` was last run with."""
    path = out / _FILE
    if not path.exists():
        return {}
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return {
            registry.ALIASES.get(name, name): Options.from_json(options)
            for name, options in stored.items()
        }
    except (ValueError, TypeError, KeyError, AttributeError):
        raise InputError(
            f"{path} is damaged: delete it and run the command again; finished results are kept"
        ) from None


def _save_options(out: Path, known: dict[str, Options]) -> None:
    stored = {name: options.to_json() for name, options in known.items()}
    atomic.write_json(out / _FILE, stored)
