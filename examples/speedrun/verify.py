"""Check a record: the logs of ten attempts, and on request one attempt once more.

    python examples/speedrun/verify.py LOGS
    python examples/speedrun/verify.py LOGS --rerun 3 --data IMAGENETTE

A record stands if it has ten seeds or more, all run by the same version of `run.py` with the same
recipe, and if the mean accuracy is above the target with 95% confidence (one-sided t-test). Its
time is the median. Seeds are 0, 1, 2 ...: none may be left out. On the same kind of processor, with
the same libraries, another attempt with the same seed ends with the same bits.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

TARGET = 0.80
SEEDS = 10
APART = 0.02  # between two machines
IMAGES = 3925  # of Imagenette, for validation


def main(arguments: Sequence[str] | None = None) -> bool:
    """Print what was found. Returns whether the record stands."""
    parser = argparse.ArgumentParser(description="Check the logs of a record.")
    parser.add_argument("logs", type=Path)
    parser.add_argument("--rerun", type=int, metavar="SEED", help="run this attempt once more")
    parser.add_argument("--data", help="Imagenette, for --rerun")
    options = parser.parse_args(arguments)
    paths = sorted(options.logs.glob("seed-*.json"))
    logs = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    faults = check(logs)
    if logs:
        print(described(logs))
    if options.rerun is not None:
        faults += rerun(logs, options.rerun, options.data)
    for fault in faults:
        print(f"not a record: {fault}")
    return not faults


def check(logs: Sequence[dict[str, Any]]) -> list[str]:
    """Why these logs are not a record; empty if they are."""
    faults = []
    if len(logs) < SEEDS:
        faults.append(f"{len(logs)} seeds, {SEEDS} are needed")
    if sorted(log["seed"] for log in logs) != list(range(len(logs))):
        faults.append("a seed is missing or there twice")
    for one in ("recipe", "program", "minialex", "device", "machine"):
        if len({json.dumps(log[one], sort_keys=True) for log in logs}) > 1:
            faults.append(f"not all logs have the same {one}")
    if any(log["images"] != IMAGES for log in logs):
        faults.append(f"an attempt was not judged on all {IMAGES:,} images")
    if len(logs) > 1 and lower_bound([log["accuracy"] for log in logs]) <= TARGET:
        faults.append(f"the mean accuracy is not above {TARGET:.0%} with 95% confidence")
    return faults


def lower_bound(values: Sequence[float]) -> float:
    """The one-sided 95% bound of the mean (t-test)."""
    from scipy.stats import t

    return mean(values) - t.ppf(0.95, len(values) - 1) * stdev(values) / len(values) ** 0.5


def described(logs: Sequence[dict[str, Any]]) -> str:
    """Accuracy and time in a line."""
    accuracies, seconds = ([log[key] for log in logs] for key in ("accuracy", "seconds"))
    machine = logs[0]["machine"]
    spread = f" ± {100 * stdev(accuracies):.2f}" if len(logs) > 1 else ""
    return (
        f"{len(logs)} attempts: {100 * mean(accuracies):.2f}{spread}% accuracy, "
        f"{median(seconds):.0f} s ({min(seconds):.0f} to {max(seconds):.0f} s) on "
        f"{machine['processor']}, {machine['cores']} cores"
    )


def rerun(logs: Sequence[dict[str, Any]], seed: int, data: str | None) -> list[str]:
    """Run an attempt once more with its log's recipe; -> how it differs from the log."""
    sys.path.insert(0, str(Path(__file__).parent))
    import run

    before = next((log for log in logs if log["seed"] == seed), None)
    if before is None or data is None:
        return [f"--rerun {seed} needs a log of that seed, and --data"]
    with tempfile.TemporaryDirectory() as folder:
        words = [data, "--seed", str(seed), "--logs", folder]
        words += ["--backend", before["device"]["backend"]]
        if before["device"]["threads"] is not None:
            words += ["--threads", str(before["device"]["threads"])]
        again = run.main(words, **before["recipe"])
    print(
        f"seed {seed} once more: {again['accuracy']:.2%} in {again['seconds']:.0f} s; its log: "
        f"{before['accuracy']:.2%} in {before['seconds']:.0f} s"
    )
    if again["machine"] != before["machine"] or again["minialex"] != before["minialex"]:
        apart = abs(again["accuracy"] - before["accuracy"])
        return [f"seed {seed} ended {100 * apart:.1f} points apart"] if apart > APART else []
    return [] if again["weights"] == before["weights"] else [f"seed {seed} has other weights"]


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
