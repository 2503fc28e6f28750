"""prove on this machine that gradients are right and backends agree, or look into a data folder"""

import argparse

from minialex.cli.common import add_json, at_least, print_json

EXAMPLES = (
    "minialex check",
    "minialex check --data shapes:400",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backend", help="check this one (default: all that run here)")
    parser.add_argument(
        "--data", metavar="PATH", help="look for what is wrong with this folder of images instead"
    )
    parser.add_argument(
        "--size", type=at_least(1), default=256, metavar="N", help="side that images will have"
    )
    add_json(parser)


def run(backend: str | None, data: str | None, size: int, json: bool) -> int:
    if data is not None:
        from minialex.data.inspect.report import check_data, problems

        report = check_data(data, size)
        wrong = problems(report)
        if json:
            print_json({"data": data, "problems": wrong, "report": report.splitlines()})
        else:
            print(report)
        return 1 if wrong else 0
    from minialex.testing.self_test import run_checks

    proofs = []
    for proof in run_checks(backend):
        proofs.append(proof)
        if not json:
            mark = {True: "ok", False: "FAILED", None: "skipped"}[proof.passed]
            print(f"{mark:8}{proof.name:76}  {proof.detail}", flush=True)
    failed = [proof.name for proof in proofs if proof.passed is False]
    if json:
        print_json([proof._asdict() for proof in proofs])
    else:
        print(f"{len(proofs)} checks, {len(failed)} failed" + "".join(f"; {n}" for n in failed))
    return 1 if failed else 0
