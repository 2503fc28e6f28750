"""time a network layer by layer, or the reading of images, with PyTorch beside it if wanted"""

import argparse
import json as json_format
import sys
from pathlib import Path

from minialex.cli.common import add_backend, at_least
from minialex.utils.options import name_and_value

EXAMPLES = (
    "minialex bench alexnet-64 --batch-size 8 --rounds 1",
    "minialex bench alexnet-64 --batch-size 1 --inference --rounds 1 --json",
    "minialex bench --data shapes:400 --size 72 --rounds 1",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", default="alexnet", metavar="MODEL")
    parser.add_argument(
        "--option",
        type=name_and_value,
        action="append",
        default=[],
        metavar="N=V",
        help="of the network, such as response_norm=false",
    )
    parser.add_argument("--batch-size", type=at_least(1), default=128, metavar="N")
    parser.add_argument(
        "--inference", action="store_true", help="only that, and not a training step"
    )
    parser.add_argument(
        "--compare", choices=("torch",), help="PyTorch in turns with ours, if it is installed"
    )
    parser.add_argument(
        "--suite",
        choices=("gpu",),
        help="every CUDA kernel checked and timed beside its floor, whole steps, PyTorch",
    )
    parser.add_argument(
        "--data", metavar="DATA", help="time the reading of these images instead of a network"
    )
    parser.add_argument(
        "--size", type=at_least(8), default=256, metavar="N", help="of the squares that are read"
    )
    parser.add_argument(
        "--workers", type=at_least(1), metavar="N", help="threads that read (default: all cores)"
    )
    parser.add_argument(
        "--rounds", type=at_least(1), default=5, metavar="N", help="the median of so many counts"
    )
    add_backend(parser)
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="JSON for other programs, into FILE or instead of the table",
    )


def run(
    model: str,
    option: list,
    batch_size: int,
    inference: bool,
    compare: str | None,
    suite: str | None,
    data: str | None,
    size: int,
    workers: int | None,
    rounds: int,
    backend: str,
    devices: list[int] | None,
    precision: str,
    threads: int | None,
    json: str | None,
) -> None:
    if suite is not None:
        _run_suite(json)
        return
    if data is not None:
        from minialex.bench import data as reading

        found = reading.rates(
            data, size=size, workers=workers, rounds=rounds, compare=compare is not None
        )
        _print(reading.text(found), reading.document(found), json)
        return
    from minialex import models
    from minialex.bench import measure, report

    result = measure.bench(
        models.get(model, **dict(option)),
        batch_size,
        backend=backend,
        devices=devices,
        precision=precision,
        threads=threads,
        training=not inference,
        compare=compare,
        rounds=rounds,
        say=lambda text: print(f"{text} ...", file=sys.stderr),
    )
    _print(report.text(result), report.document(result), json)


def _run_suite(json: str | None) -> None:
    from minialex.backends.cuda import device
    from minialex.bench import gpu
    from minialex.errors import InputError

    if json in (None, "-"):
        raise InputError("the suite takes minutes and writes its tables to a file: add --json FILE")
    device.check(0)
    gpu.run_suite(Path(str(json)))


def _print(text: str, document: dict | list, json: str | None) -> None:
    from minialex.utils.atomic import write_json

    if json == "-":
        print(json_format.dumps(document, indent=2))
        return
    print(text)
    if json is not None:
        write_json(Path(json), document)
