"""Damaged files of a kind, by the hundred, and with `pytest -m slow` by the thousand."""

import random
import time
import tracemalloc

import pytest

from minialex.errors import InputError

COUNTS = pytest.mark.parametrize("count", [250, pytest.param(3000, marks=pytest.mark.slow)])


def damaged(content, rng):
    """Bytes changed, lost, added, cut off or moved; mostly near the ends, where structure is."""
    made = bytearray(content)

    def position():
        near = rng.choice([rng.randrange(len(made)), rng.randrange(600), -1 - rng.randrange(900)])
        return near % len(made)

    kind, at, count = rng.randrange(6), position(), rng.randrange(1, 9)
    if kind == 0:
        return made[:at]
    if kind == 1:
        made[at] = rng.randrange(256)
    elif kind == 2:
        del made[at : at + count]
    elif kind == 3:
        made[at:at] = rng.randbytes(count)
    elif kind == 4:
        made[at : at + count] = rng.choice([b"\xff", b"\0", b"\x7f"]) * count
    else:
        other = position()
        made[at : at + 4 * count] = made[other : other + 4 * count]
    return made


def refusals(path, read, count, megabytes=24):
    """The errors of `read(path)` for `count` damaged variants of the file at `path`.

    Each is read or refused with one short sentence, without much time and memory.
    """
    content, rng, said = path.read_bytes(), random.Random(f"{path.name} {count}"), []
    tracemalloc.start()
    try:
        for i in range(count):
            path.write_bytes(damaged(content, rng))
            start = time.process_time()
            try:
                read(path)
            except InputError as error:
                said.append(str(error))
                assert "\n" not in said[-1]
                assert len(said[-1]) < 800
            assert time.process_time() - start < 10, f"file {i} takes too long"
            assert tracemalloc.get_traced_memory()[1] < megabytes * 1e6, f"file {i} takes memory"
    finally:
        tracemalloc.stop()
    return said
