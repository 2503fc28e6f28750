"""The output of `minialex bench`: a table of layers, totals, and another program's times."""

from typing import Any

from minialex.bench.measure import Result, Timing
from minialex.bench.network import Pass, Row, zeros_text
from minialex.bench.programs import PROGRAMS
from minialex.bench.roofline import Roofline

_LEGEND = (
    "share: of the roofline, the time for the direct method's operations at the rate of the large "
    "product, or for\nthe minimum memory traffic at the rate of the large update; Winograd needs "
    "fewer operations and can exceed\n100%; fused layers, such as a ReLU, count in the row above"
)


def text(result: Result) -> str:
    """The report as text."""
    options = "".join(f", {name}={value}" for name, value in result.options.items())
    threads = "" if result.threads is None else f", {result.threads} threads"
    on = f"{result.backend}, {result.precision}{threads}"
    lines = [
        f"{result.model}{options}, batch {result.batch}, {on}",
        "; ".join(f"{name} {value}" for name, value in result.machine.items()),
        *([result.subject] if result.subject else []),
        f"roofline: {result.roofline.flops / 1e9:,.0f} GFLOP/s (large product), "
        f"{result.roofline.bytes / 1e9:,.1f} GB/s (large update)",
        "",
    ]
    if result.rows:
        lines += [*_table(result), "", _LEGEND, ""]
    lines += [_total(result, timing) for timing in result.timings]
    lines.append(f"first calls, with compilation: {result.first_calls:.1f} s")
    if result.zero_inputs:
        lines.append(zeros_text(result.zero_inputs))
    if result.peak_memory is not None:
        lines.append(f"peak memory: {result.peak_memory / 1e9:.2f} GB")
    return "\n".join(lines)


def _table(result: Result) -> list[str]:
    columns = f"{'ms':>9} {'GFLOP/s':>8} {'GB/s':>6} {'share':>6}"
    both = any(row.backward for row in result.rows)
    blank = " " * len(columns)
    head = f"{'':10} {'forward':<{len(columns)}}" + ("   backward" if both else "")
    lines = [head.rstrip(), f"{'layer':10} {columns}" + (f"   {columns}" if both else "")]
    for row in result.rows:
        if row.forward is None and row.backward is None:
            continue
        cells = [_cell(row.forward, result.roofline) or blank]
        if both:
            cells.append(_cell(row.backward, result.roofline))
        lines.append(f"{row.name:10} {'   '.join(cells)}".rstrip())
    sums = [_sum(result.rows, way) for way in ("forward", "backward")[: 1 + both]]
    lines.append(f"{'sum':10} " + "   ".join(_cell(one, result.roofline) for one in sums))
    return lines


def _sum(rows: list[Row], way: str) -> Pass:
    found = [one for row in rows if (one := getattr(row, way)) is not None]
    return Pass(
        sum(p.seconds for p in found), sum(p.flops for p in found), sum(p.bytes for p in found)
    )


def _cell(one: Pass | None, roofline: Roofline) -> str:
    if one is None:
        return ""
    flops = f"{one.flops / one.seconds / 1e9:8,.0f}" if one.flops else " " * 8
    share = roofline.least_seconds(one.flops, one.bytes) / one.seconds
    return f"{one.seconds * 1e3:9.2f} {flops} {one.bytes / one.seconds / 1e9:6.1f} {share:6.0%}"


def _total(result: Result, timing: Timing) -> str:
    rate = timing.flops / timing.seconds
    line = (
        f"{timing.what}: {timing.seconds * 1e3:,.1f} ms, {result.batch / timing.seconds:,.1f} "
        f"images/s, {rate / 1e9:,.0f} GFLOP/s, {rate / result.roofline.flops:.0%} of the product's"
    )
    for name, seconds in timing.peers.items():
        rate = result.batch / seconds
        peer = name if name == _program(result) else f"{_program(result)}, {name}"
        line += f"\n  {peer}: {seconds * 1e3:,.1f} ms, {rate:,.1f} images/s"
    if timing.ratio is not None:
        whose = f"{_program(result)}'s {'best' if len(timing.peers) > 1 else 'speed'}"
        line += f"\n  {timing.ratio:.2f} times {whose}"
    return line


def _program(result: Result) -> str:
    return PROGRAMS[result.compare].name if result.compare else ""


def document(result: Result) -> dict[str, Any]:
    """The report as JSON; times in seconds, rates per second, memory in bytes."""
    return {
        "model": result.model,
        "options": result.options,
        "subject": result.subject,
        "batch": result.batch,
        "backend": result.backend,
        "threads": result.threads,
        "precision": result.precision,
        "machine": result.machine,
        "roofline": {"flops": result.roofline.flops, "bytes": result.roofline.bytes},
        "layers": [
            {
                "name": row.name,
                "kind": row.kind,
                "forward": _pass(row.forward, result.roofline),
                "backward": _pass(row.backward, result.roofline),
            }
            for row in result.rows
        ],
        "timings": [
            {
                "what": timing.what,
                "seconds": timing.seconds,
                "images_per_second": result.batch / timing.seconds,
                "flops": timing.flops / timing.seconds,
                "share_of_product": timing.flops / timing.seconds / result.roofline.flops,
                f"{result.compare or 'torch'}_seconds": timing.peers,
                f"times_{result.compare or 'torch'}": timing.ratio,
            }
            for timing in result.timings
        ],
        "zero_inputs": result.zero_inputs,
        "first_calls_seconds": result.first_calls,
        "peak_memory_bytes": result.peak_memory,
    }


def _pass(one: Pass | None, roofline: Roofline) -> dict[str, float] | None:
    if one is None:
        return None
    return {
        "seconds": one.seconds,
        "flops": one.flops / one.seconds,
        "bytes": one.bytes / one.seconds,
        "share_of_roofline": roofline.least_seconds(one.flops, one.bytes) / one.seconds,
    }
