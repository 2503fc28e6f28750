"""Completes a packed data set: labels, names, statistics, report.txt and, last, the manifest."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from minialex.data.dataset import Splits
from minialex.data.decode.jpeg import simplejpeg
from minialex.data.packed.format import FORMAT, MANIFEST, PARTS, VERSION, checksum, write_array
from minialex.data.packed.packing import STATE, PartState, PrepareState, source_name
from minialex.data.statistics import from_sums
from minialex.errors import InputError
from minialex.utils import atomic

REPORT = "report.txt"

_EXAMPLES = 100


def finish(folder: Path, state: PrepareState, splits: Splits, root: Path | None) -> None:
    """Write all files beside the shards; the manifest comes last and makes the set complete."""
    left_out = state.left_out
    for part in PARTS:
        if not state.parts[part].kept:
            atomic.write_text(folder / REPORT, "\n".join(_left_out(left_out)) + "\n")
            raise InputError(f"no image of {part} can be used: see {folder / REPORT}")
    train, request = splits.train, state.request
    statistics = from_sums(state.total, state.products, len(state.parts["train"].kept))
    names = {
        part: np.array([os.fsencode(source_name(data, i, root)) for i in state.parts[part].kept])
        for part, data in splits.parts.items()
    }
    labels = {part: data.labels[state.parts[part].kept] for part, data in splits.parts.items()}
    values: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "name": train.name,
        "source": train.layout,
        "size": request["size"],
        "native_size": train.native_size,
        "pixels": "uint8 N H W C, RGB" if request["quality"] is None else "jpeg",
        "decoder": _decoder(),
        "request": request,
        "class_ids": list(train.class_ids),
        "class_names": list(train.class_names),
        "parts": {
            part: _write_part(folder, part, state, labels[part], names[part], len(train.class_ids))
            for part in PARTS
        },
        "left_out": left_out,
        "statistics": {
            "images": statistics.count,
            "mean": write_array(folder / "mean.npy", statistics.mean, "<f4"),
            "colour_std": statistics.colour_std.tolist(),
            "colour_axes": statistics.colour_axes.tolist(),
        },
    }
    lines = [f"{train.name}: {train.layout}, packed at {request['size']} x {request['size']}"]
    for part, of_part in values["parts"].items():
        lines.append(f"{part}: {of_part['images']:,} images, {of_part['left_out']:,} left out")
        for class_id, count in zip(train.class_ids, of_part["per_class"], strict=True):
            if part == "train" and not count:
                lines.append(f"  class {class_id} has no image left")
    lines += _left_out(left_out)
    lines += _same(state.parts, labels, names, train.class_ids)
    reports = (remarks.report() for remarks in splits.remarks)
    lines += dict.fromkeys(line for report in reports for line in report)
    atomic.write_text(folder / REPORT, "\n".join(lines) + "\n")
    atomic.write_json(folder / MANIFEST, {**values, "checksum": checksum(values)})
    (folder / STATE).unlink()


def require_usable(folder: Path, state: PrepareState, total: int, most: float) -> None:
    """Raise InputError if more than the fraction `most` of all images was left out.

    All images were read, so the report lists every one. The shards are kept: repeating the command
    with a larger fraction reads no image again.
    """
    left_out = state.left_out
    if len(left_out) <= most * total:
        return
    lines = _left_out(left_out)
    atomic.write_text(folder / REPORT, "\n".join(lines) + "\n")
    raise InputError(
        f"{len(left_out):,} of {total:,} images are unreadable or mislabelled, more than the "
        f"fraction of {most:g} that may be left out, the first: {lines[1].strip()}; "
        f"{folder / REPORT} lists them: repair them, or allow more"
    )


def _write_part(
    folder: Path,
    name: str,
    state: PrepareState,
    labels: np.ndarray,
    names: np.ndarray,
    classes: int,
) -> dict[str, Any]:
    """Write a part's arrays; returns its entry for the manifest."""
    part, width = state.parts[name], names.dtype.itemsize
    written = write_array(folder / f"{name}-names.npy", names, f"|S{width}")
    values: dict[str, Any] = {
        "images": len(labels),
        "left_out": len(part.left_out),
        "per_class": np.bincount(labels, minlength=classes).tolist(),
        "labels": write_array(folder / f"{name}-labels.npy", labels, "<i8"),
        "names": {**written, "width": width},
        "shards": part.shards,
    }
    if any(size or digest for size, digest in part.origins):  # files, or records of one
        origins = np.array(part.origins, np.uint64)
        values["origins"] = write_array(folder / f"{name}-origins.npy", origins, "<u8")
    if state.request["quality"] is not None:
        values["places"] = write_array(folder / f"{name}-places.npy", np.array(part.places), "<i8")
    return values


def _left_out(left_out: dict[str, str]) -> list[str]:
    if not left_out:
        return ["every image could be used"]
    listed = (f"  {r if n in r else f'{n}: {r}'}" for n, r in left_out.items())
    return [f"left out, because unreadable or mislabelled: {len(left_out):,}", *listed]


def _same(
    parts: dict[str, PartState],
    labels: dict[str, np.ndarray],
    names: dict[str, np.ndarray],
    class_ids: tuple[str, ...],
) -> Iterator[str]:
    """Images that are equal pixel for pixel, with two labels or in both parts; all are kept."""
    digests = np.concatenate([np.array(parts[p].digests, np.uint64) for p in PARTS])
    label = np.concatenate([labels[p] for p in PARTS])
    name = [n for p in PARTS for n in names[p].tolist()]
    order = np.argsort(digests, kind="stable")
    equal = np.flatnonzero(digests[order[1:]] == digests[order[:-1]])
    two_labels, both_parts = [], []
    for a, b in zip(order[equal].tolist(), order[equal + 1].tolist(), strict=True):
        pair = " = ".join(name[i].decode("utf-8", "backslashreplace") for i in (a, b))
        if label[a] != label[b]:
            two_labels.append(f"{pair}, as {class_ids[label[a]]} and {class_ids[label[b]]}")
        elif (a < len(labels["train"])) != (b < len(labels["train"])):
            both_parts.append(pair)
    yield from _some("the same image under two labels, so one is mislabelled", two_labels)
    yield from _some("train/val leakage, the same image in train and val", both_parts)


def _some(title: str, found: list[str]) -> Iterable[str]:
    if not found:
        return []
    more = ["  ..."] if len(found) > _EXAMPLES else []
    return [f"{title}: {len(found):,}", *(f"  {line}" for line in found[:_EXAMPLES]), *more]


def _decoder() -> str:
    import PIL
    from PIL import features

    fast = simplejpeg()
    used = f"Pillow {PIL.__version__}, libjpeg {features.version('jpg')}"
    return used if fast is None else f"{used}, simplejpeg {fast.__version__}"
