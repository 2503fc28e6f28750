"""time a network layer by layer, or image loading, optionally against PyTorch"""

import argparse
import json as json_format
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from minialex.cli.bench_options import refuse_without_effect
from minialex.cli.common import (
    add_device_options,
    add_model_option,
    add_workers,
    at_least,
    network_options,
)
from minialex.utils.arguments import ListOf, Text, integer
from minialex.utils.paths import expanded

if TYPE_CHECKING:
    from minialex.bench.subject import Subject
    from minialex.parallel import DeviceConfig

EXAMPLES = (
    "minialex bench alexnet-64 --batch-size 8 --rounds 1",
    "minialex bench alexnet-64 --batch-size 1 --inference --rounds 1 --json",
    "minialex bench --data shapes:400 --size 72 --rounds 1",
)
_NETWORK = "of the network to predict for (default: measured here)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        nargs="?",
        metavar="MODEL",
        help="network, or FILE.py:FUNCTION (default: alexnet)",
    )
    add_model_option(parser)
    parser.add_argument(
        "--batch-size",
        type=ListOf(integer(1)),
        metavar="N",
        help="batch size (default: 128), with --compare also several: 1,16,128",
    )
    parser.add_argument(
        "--inference", action="store_true", help="time inference instead of training steps"
    )
    parser.add_argument(
        "--compare",
        type=ListOf(Text()),
        metavar="PROGRAM",
        help="also time torch (PyTorch), or with --inference onnxruntime or openvino, alternating "
        "with minialex; several programs or batch sizes, separated by commas, make a table",
    )
    parser.add_argument(
        "--ranks",
        type=ListOf(integer(1)),
        metavar="N,N",
        help="time training steps on these numbers of processes, which mpirun starts, and predict "
        "larger numbers",
    )
    parser.add_argument(
        "--latency",
        type=float,
        metavar="US",
        help=f"with --ranks: latency in microseconds {_NETWORK}",
    )
    parser.add_argument(
        "--bandwidth",
        type=float,
        metavar="GB/S",
        help=f"with --ranks: bandwidth in gigabytes per second {_NETWORK}",
    )
    parser.add_argument(
        "--suite",
        choices=("gpu",),
        help="check and time every CUDA kernel, and time training steps, also PyTorch's; needs "
        "--json FILE, and continues with what has no result in it yet",
    )
    parser.add_argument(
        "--checks",
        action="store_true",
        help="with --suite: also run the GPU tests, overfit eight images in each precision, and "
        "run compute-sanitizer; needs a clone of the repository",
    )
    parser.add_argument(
        "--parts",
        type=ListOf(Text()),
        metavar="NAME,NAME",
        help="with --suite: run only the parts whose names start with these (failed and left-out "
        "stand for such parts) and add them to the results in --json FILE",
    )
    parser.add_argument(
        "--data",
        metavar="DATA",
        help="time the loading of these images instead of a network; with --inference and --from, "
        "time the network on them; with --suite, train on them",
    )
    parser.add_argument(
        "--accuracy",
        action="store_true",
        help="with --data: compare accuracies after --minutes of training: minialex's defaults, "
        "the same network and half a ResNet-18 in PyTorch, and HOG with an SVM",
    )
    parser.add_argument(
        "--fine-tune",
        action="store_true",
        help="with --data and --from: fine-tune the weights, all layers for an epoch and the last "
        "layer for 20 on stored outputs, beside the same in PyTorch",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        metavar="M",
        help="with --accuracy: minutes per training run (default: 2); with --suite: minutes for "
        "all parts (default: 9)",
    )
    parser.add_argument(
        "--seeds",
        type=at_least(1),
        metavar="N",
        help="with --accuracy: training runs per method (default: 3)",
    )
    parser.add_argument(
        "--from",
        dest="initial",
        metavar="RUN",
        help="with --accuracy: also fine-tune these weights; with --fine-tune: fine-tune them; "
        "with --inference: time their network on photographs of --data; many activations of a "
        "trained network are zero, which minialex skips",
    )
    parser.add_argument(
        "--size",
        type=at_least(8),
        metavar="N",
        help="with --data: side of the resized images (default: 256)",
    )
    add_workers(parser)
    parser.add_argument(
        "--rounds",
        type=at_least(1),
        metavar="N",
        help="repeat N times and take the median (default: 5)",
    )
    add_device_options(parser)
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="print JSON instead of text, or write it to FILE",
    )


def run(
    model: str | None,
    option: list,
    batch_size: Sequence[int] | None,
    inference: bool,
    compare: Sequence[str] | None,
    ranks: list[int] | None,
    latency: float | None,
    bandwidth: float | None,
    suite: str | None,
    checks: bool,
    parts: Sequence[str] | None,
    data: str | None,
    accuracy: bool,
    fine_tune: bool,
    minutes: float | None,
    seeds: int | None,
    initial: str | None,
    size: int | None,
    workers: int | None,
    rounds: int | None,
    device_config: "DeviceConfig",
    json: str | None,
) -> int:
    from minialex import models
    from minialex.bench.subject import Subject
    from minialex.errors import InputError

    sizes = ListOf(integer(1)).check("--batch-size", batch_size or (128,))
    others = {
        "--suite": suite is not None,
        "--accuracy": accuracy,
        "--fine-tune": fine_tune,
        "--ranks": ranks is not None,
    }
    if not any(others.values()) and (inference or initial) and (initial or data):
        _require_trained(inference, initial, data)
    loading = data is not None and not inference
    _check_compared(compare, sizes, {**others, "--data": loading})
    refuse_without_effect(
        {
            "MODEL": model,
            "--option": option or None,
            "--batch-size": batch_size,
            "--inference": inference or None,
            "--compare": compare,
            "--ranks": ranks,
            "--latency": latency,
            "--bandwidth": bandwidth,
            "--suite": suite,
            "--checks": checks or None,
            "--parts": parts,
            "--data": data,
            "--accuracy": accuracy or None,
            "--fine-tune": fine_tune or None,
            "--minutes": minutes,
            "--seeds": seeds,
            "--from": initial,
            "--size": size,
            "--workers": workers,
            "--rounds": rounds,
            **_of_devices(device_config),
        }
    )
    rounds = 5 if rounds is None else rounds
    if suite is not None:
        return _run_suite(json, checks, data, parts, minutes)
    if accuracy:
        return _run_accuracy(
            data,
            2.0 if minutes is None else minutes,
            range(3 if seeds is None else seeds),
            initial,
            device_config.threads,
            json,
        )
    if fine_tune:
        return _run_fine_tune(data, initial, rounds, device_config.threads, json)
    if data is not None and not inference:
        from minialex.bench import data as reading

        found = reading.rates(
            data, size=size or 256, workers=workers, rounds=rounds, compare=bool(compare)
        )
        _print(reading.text(found), reading.document(found), json)
        return 0
    from minialex.bench import measure, report

    if len(sizes) > 1 and not compare:
        raise InputError("several batch sizes are compared with other programs: add --compare")
    if ranks is not None:
        ranks, name = list(ListOf(integer(1)).check("--ranks", ranks)), model or "alexnet"
        network, [batch] = (latency, bandwidth), sizes
        return _run_ranks(name, option, ranks, batch, rounds, device_config, network, json)
    if initial is not None and data is not None:
        subject = _trained(model, option, data, initial, max(sizes))
    else:
        subject = Subject(models.get(models.use(model or "alexnet"), **network_options(option)))
    if compare and max(len(compare), len(sizes)) > 1:
        return _run_peers(subject, sizes, compare, not inference, rounds, device_config, json)
    [batch] = sizes
    result = measure.bench(
        subject,
        batch,
        backend=str(device_config.backend),
        devices=device_config.devices,
        precision=device_config.precision,
        threads=device_config.threads,
        training=not inference,
        compare=compare[0] if compare else None,
        rounds=rounds,
        say=lambda text: _say(f"{text} ..."),
    )
    _print(report.text(result), report.document(result), json)
    return 0


def _of_devices(given: "DeviceConfig") -> dict[str, object]:
    """The device options that choose something else than usual."""
    chosen = {"--backend": given.backend, "--precision": given.precision}
    usual = {"--backend": "auto", "--precision": "fp32"}
    others = {name: None if one == usual[name] else one for name, one in chosen.items()}
    return {**others, "--devices": given.devices, "--threads": given.threads}


def _require_trained(inference: bool, initial: str | None, data: str | None) -> None:
    """Raise InputError unless weights and photographs are given, to time inference with."""
    from minialex.errors import InputError

    if not inference:
        raise InputError("--from has no effect here: add --inference, --accuracy or --fine-tune")
    if initial is None:
        raise InputError(
            "--inference on photographs needs weights: add --from RUN (or leave out --inference to "
            "time the loading of --data)"
        )
    if data is None:
        raise InputError("--inference --from needs photographs: add --data PATH")


def _trained(model: str | None, option: list, data: str, initial: str, images: int) -> "Subject":
    """Trained weights; `model` may only say where their network is to be found."""
    from minialex.bench import subject
    from minialex.errors import InputError

    if option or (model is not None and ":" not in model):
        raise InputError("MODEL and --option have no effect with --from, which names the network")
    return subject.trained(initial, data, images, model)


def _check_compared(
    compare: Sequence[str] | None, sizes: Sequence[int], instead: dict[str, bool]
) -> None:
    """Raise InputError for --compare or several batch sizes with an option that ignores them."""
    from minialex.bench.programs import PROGRAMS
    from minialex.errors import InputError, unknown

    option = next((name for name, given in instead.items() if given), None)
    for name in compare or ():
        if name not in PROGRAMS:
            raise unknown("program to compare with", name, PROGRAMS)
        if option == "--data" and name != "torch":
            raise InputError(
                f"--data is compared with only torch, PyTorch's DataLoader, not with {name}: use "
                "--compare torch"
            )
    if compare and option not in (None, "--data"):
        raise InputError(f"--compare has no effect with {option}: leave out --compare or {option}")
    if option and len(sizes) > 1:
        raise InputError(f"{option} takes no list of batch sizes: give one --batch-size")


def _run_peers(
    subject: "Subject",
    batches: Sequence[int],
    programs: Sequence[str],
    training: bool,
    rounds: int,
    where: "DeviceConfig",
    json: str | None,
) -> int:
    from minialex.bench import peers

    found = peers.compare(
        subject, batches, programs, where, training=training, rounds=rounds, say=_say
    )
    _print(peers.text(found), peers.document(found), json)
    return 0


def _run_ranks(
    model: str,
    option: list,
    ranks: list[int],
    batch: int,
    rounds: int,
    where: "DeviceConfig",
    network: tuple[float | None, float | None],
    json: str | None,
) -> int:
    from minialex import models
    from minialex.bench import ranks as on_ranks
    from minialex.bench.scaling import Network
    from minialex.errors import InputError
    from minialex.utils.arguments import Number

    given = None
    if network != (None, None):
        if None in network:
            raise InputError("--latency and --bandwidth describe one network: give both")
        above = Number(float, above=0)
        latency, bandwidth = map(above.check, ("--latency", "--bandwidth"), network)
        given = Network(1e-6 * latency, 1e9 * bandwidth)
    words = ["bench", model, "--batch-size", f"{batch}", "--rounds", f"{rounds}"]
    words += [f"--option={name}={value}" for name, value in option]
    words += ["--backend", str(where.backend), "--precision", where.precision]
    if where.threads is not None:
        words += ["--threads", f"{where.threads}"]
    if isinstance(where.devices, tuple):
        words += ["--devices", ",".join(map(str, where.devices))]
    chosen = models.get(models.use(model), **network_options(option))
    found = on_ranks.compare(
        chosen, ranks, batch, words, where, rounds=rounds, network=given, say=_say
    )
    if found is not None:
        _print(on_ranks.text(found), on_ranks.document(found), json)
    return 0


def _run_suite(
    json: str | None,
    checks: bool,
    data: str | None,
    parts: Sequence[str] | None,
    minutes: float | None,
) -> int:
    from minialex.backends.cuda import device
    from minialex.bench import gpu
    from minialex.errors import InputError
    from minialex.utils.arguments import Number

    if json in (None, "-"):
        raise InputError(
            "the suite takes minutes and needs a file for its results: add --json FILE"
        )
    device.check(0)
    plan = gpu.Plan(checks=checks, data=data)
    if minutes is not None:
        plan = replace(plan, budget=60 * Number(float, above=0).check("--minutes", minutes))
    found = gpu.run_suite(expanded(str(json)), plan, parts or ())
    failed = any(isinstance(part, dict) and "failed" in part for part in found.values())
    return 1 if failed else 0


def _run_accuracy(
    data: str | None,
    minutes: float,
    seeds: range,
    initial: str | None,
    threads: int | None,
    json: str | None,
) -> int:
    from minialex.bench import accuracy
    from minialex.errors import InputError
    from minialex.utils.arguments import Number

    if data is None:
        raise InputError("--accuracy needs images to train on: add --data PATH")
    minutes = Number(float, above=0).check("--minutes", minutes)
    found = accuracy.compare(
        data, minutes=minutes, seeds=seeds, initial=initial, threads=threads, say=_say
    )
    _print(accuracy.text(found), accuracy.document(found), json)
    return 0


def _run_fine_tune(
    data: str | None, initial: str | None, rounds: int, threads: int | None, json: str | None
) -> int:
    from minialex.bench import fine_tune
    from minialex.errors import InputError

    if data is None or initial is None:
        raise InputError("--fine-tune needs images and weights: add --data PATH and --from RUN")
    found = fine_tune.compare(data, initial, rounds=rounds, threads=threads, say=_say)
    _print(fine_tune.text(found), fine_tune.document(found), json)
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _print(text: str, document: dict | list, json: str | None) -> None:
    from minialex.utils.atomic import write_json

    if json == "-":
        print(json_format.dumps(document, indent=2))
        return
    print(text)
    if json is not None:
        write_json(expanded(json), document)
