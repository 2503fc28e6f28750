"""report.txt of a packed data set: images left out, and suspicious ones that were kept."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from minialex.data.dataset import Splits
from minialex.data.packed.manifest import PARTS
from minialex.data.packed.shards import PrepareState
from minialex.utils import atomic

NAME = "report.txt"

_EXAMPLES = 100


def text(values: dict[str, Any], state: PrepareState, splits: Splits, names) -> str:
    """The report on a finished set; `values` are its manifest's."""
    lines = [f"{values['name']}: {values['source']}, packed at {values['size']} x {values['size']}"]
    for part, of_part in values["parts"].items():
        lines.append(f"{part}: {of_part['images']:,} images, {of_part['left_out']:,} left out")
        for class_id, count in zip(values["class_ids"], of_part["per_class"], strict=True):
            if part == "train" and not count:
                lines.append(f"  class {class_id} has no image left")
    left_out = {k: v for p in PARTS for k, v in state.parts[p].left_out.items()}
    lines += _left_out(left_out)
    lines += _same(state, splits, names)
    reports = (dataset.remarks.report() for dataset in splits.parts.values())
    lines += dict.fromkeys(line for report in reports for line in report)
    return "\n".join(lines) + "\n"


def write_left_out(folder: Path, left_out: dict[str, str]) -> None:
    """The report on a set that is given up because too many images are left out."""
    content = "\n".join(_left_out(left_out)) + "\n"
    atomic.write_bytes(folder / NAME, content.encode("utf-8", "backslashreplace"))


def _left_out(left_out: dict[str, str]) -> list[str]:
    if not left_out:
        return ["every image could be used"]
    listed = (f"  {r if n in r else f'{n}: {r}'}" for n, r in left_out.items())
    return [f"left out, because unreadable or mislabelled: {len(left_out):,}", *listed]


def _same(state: PrepareState, splits: Splits, names) -> Iterator[str]:
    """Images that are the same pixel for pixel, with two labels or in both parts; all are kept."""
    parts = [np.repeat(i, len(state.parts[p].kept)) for i, p in enumerate(PARTS)]
    digests = np.concatenate([np.array(state.parts[p].digests, np.uint64) for p in PARTS])
    labels = np.concatenate(
        [splits.parts[p].labels[np.array(state.parts[p].kept, np.int64)] for p in PARTS]
    )
    part, index = np.concatenate(parts), np.concatenate([np.arange(len(p)) for p in parts])
    order = np.argsort(digests, kind="stable")
    equal = np.flatnonzero(digests[order[1:]] == digests[order[:-1]])
    two_labels, both_parts = [], []
    for a, b in zip(order[equal], order[equal + 1], strict=True):
        one, other = (
            f"{names[PARTS[part[i]]][index[i]].decode('utf-8', 'backslashreplace')}" for i in (a, b)
        )
        if labels[a] != labels[b]:
            classes = (splits.train.class_ids[labels[i]] for i in (a, b))
            two_labels.append(f"{one} = {other}, as {' and '.join(classes)}")
        elif part[a] != part[b]:
            both_parts.append(f"{one} = {other}")
    if two_labels:
        yield f"the same image under two labels, so one is mislabelled: {len(two_labels):,}"
        yield from _some(two_labels)
    if both_parts:
        yield f"train/val leakage, the same image in train and val: {len(both_parts):,}"
        yield from _some(both_parts)


def _some(lines) -> Iterator[str]:
    for number, line in enumerate(lines):
        if number == _EXAMPLES:
            yield "  ..."
            return
        yield f"  {line}"
