"""check gradients and backends on this machine, or check a data set for problems"""

import argparse

from minialex.cli.common import add_json, at_least, print_json
from minialex.errors import InputError

EXAMPLES = (
    "minialex check",
    "minialex check shapes:400",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--backend", metavar="NAME", help="check only this one (default: all available)"
    )
    parser.add_argument(
        "path", nargs="?", metavar="PATH", help="check this data set instead (or --data PATH)"
    )
    parser.add_argument("--data", metavar="PATH", help=argparse.SUPPRESS)
    parser.add_argument(
        "--size",
        type=at_least(1),
        metavar="N",
        help="with PATH: report images smaller than this, the size that a model resizes to",
    )
    add_json(parser)


def run(
    path: str | None, backend: str | None, data: str | None, size: int | None, json: bool
) -> int:
    if path is not None and data is not None:
        raise InputError(f"{path} and --data {data} are both data sets to check: give only one")
    data = path if data is None else data
    if data is None and size is not None:
        raise InputError("--size needs PATH: give the data set to check")
    if data is not None and backend is not None:
        raise InputError(f"--backend cannot be used with a data set ({data}): leave one out")
    if data is not None:
        from minialex.data.inspect.check import check_data, problems

        report = check_data(data, size)
        wrong = problems(report)
        if json:
            print_json({"data": data, "problems": wrong, "report": report.splitlines()})
        else:
            print(report)
        return 1 if wrong else 0
    from minialex.testing.self_test import run_checks

    results = []
    for result in run_checks(backend):
        results.append(result)
        if not json:
            mark = {True: "ok", False: "FAILED", None: "skipped"}[result.passed]
            print(f"{mark:8}{result.name:76}  {result.detail}", flush=True)
    failed = [result.name for result in results if result.passed is False]
    if json:
        print_json([result._asdict() for result in results])
    else:
        print(f"{len(results)} checks, {len(failed)} failed" + "".join(f"; {n}" for n in failed))
    return 1 if failed else 0
