"""The expected times of the convolutions, and the machine code that they are computed from."""

from pathlib import Path

import pytest

from minialex.bench.gpu import exchange, expected, parts, products
from minialex.bench.gpu.plan import Plan
from minialex.bench.gpu.sass import inner_loop, registers

LISTING = """
.text.other:
        /*0000*/                   HMMA.16816.F32 R4, R8, R2, R4 ;
.section .text.conv
.text.conv:
        /*0000*/                   MOV R1, c[0x0][0x28] ;
.L_x_1:
        /*0010*/                   LDSM.16.M88.4 R4, [R2] ;
.L_x_2:
        /*0020*/              @!P0 IADD3 R3, R3, 0x1, RZ ;
        /*0030*/               @P1 BRA `(.L_x_2) ;
        /*0040*/                   HMMA.16816.F32 R4, R8, R2, R4 ;
        /*0050*/               @P0 BRA `(.L_x_1) ;
        /*0060*/                   EXIT ;
.section .nv.info
"""


def test_the_inner_loop_is_the_one_with_products():
    names = ["LDSM.16.M88.4", "IADD3", "BRA", "HMMA.16816.F32", "BRA"]
    assert inner_loop(LISTING, "conv") == names
    assert inner_loop(LISTING.replace("HMMA", "FFMA"), "conv") == []


def test_operations_and_launches_by_hand():
    found = {(e.layer, e.op): e for e in expected.expected(128)}
    conv3 = found["conv3", "forward"]
    # 128 x 13 x 13 pixels in tiles of 128 rows, 384 channels in three of 128 columns
    assert (conv3.tile, conv3.blocks) == (128, 169 * 3)
    assert conv3.useful == 1
    # 38.27e9 operations take 38.7 us at the 989.4e12 a second of NVIDIA's data sheet, which is at
    # 1.83 GHz; at 1.755 GHz 40.3 us; 507 blocks take four turns on 132 multiprocessors, not 3.84
    assert conv3.mma.tensor == pytest.approx(42.0, abs=0.05)
    # 72 steps, each 313 instructions of four warps, one warp on each of the four schedulers: 22,536
    # cycles a block, or 12.84 us
    assert conv3.mma.issue == pytest.approx(51.4, abs=0.05)
    assert found["conv2", "input gradient"].useful == 1  # 48 of 48 columns


def test_the_first_layer_is_computed_in_blocks():
    found = {(e.layer, e.op): e for e in expected.expected(128)}
    conv1 = found["conv1", "forward"]
    # 26.99e9 operations at the rate of the test above take 28.4 us; 363 of 448 numbers in 14 steps
    # are no padding; 3,025 blocks take 23 turns, not 22.92
    assert conv1.useful == pytest.approx(0.810, abs=0.0005)
    assert conv1.mma.tensor == pytest.approx(35.2, abs=0.05)


def test_dense_layers_and_memory_by_hand():
    fc6 = next(iter(expected.dense(128)))
    # 1.18, 37.75 and 0.52 million numbers of two bytes; 9.66e9 operations
    assert fc6.megabytes == pytest.approx(78.9, abs=0.05)
    assert fc6.tensor == pytest.approx(10.2, abs=0.05)
    moved = {one.layer: one for one in expected.memory_bound(128)}
    # 60,965,224 parameters of 20 bytes, at 3.35 bytes a picosecond
    assert moved["update"].megabytes == pytest.approx(1219.3, abs=0.05)
    assert moved["update"].memory["H100"] == pytest.approx(364.0, abs=0.05)
    # read 37.17 million numbers of 2 bytes; write 8.96 million maxima of 2, and where they were
    assert moved["norm1 and pool1"].megabytes == pytest.approx(110.2, abs=0.05)
    biases = [f"relu{i}" for i in range(1, 6) if moved[f"relu{i}'s bias, backward"].alone]
    assert biases == ["relu3"]  # whose rows fill its tiles


def test_copies_to_shared_memory_by_hand():
    """conv2's input gradient: dy of 27 x 27 pixels, 128 channels of each of two groups, 5 x 5."""
    found = {(e.layer, e.op): e for e in expected.expected(128)}
    conv2 = found["conv2", "input gradient"]
    # 1,458 tiles; 100 steps of 32 channels of 128 pixels and 48 columns
    assert conv2.copied == 1458 * 100 * 32 * (128 + 48) * 2
    tensor, copied = conv2.tma
    # 842 tiles; twice 64 channels of 14 rows of 29 pixels, and of 25 places of 48 columns
    assert copied == 842 * 2 * 64 * (14 * 29 + 25 * 48) * 2
    # seven tiles in turn of 256 pixels, 48 columns and 25 x 128 numbers, 2,048 in a cycle
    assert tensor == pytest.approx(7 * 256 * 48 * 25 * 128 / 2048 / 1755, abs=0.05)
    # at 5,120 bytes in a cycle of 1.755 GHz
    assert conv2.with_copies("H200", False) == pytest.approx(conv2.copied / 5120 / 1755, abs=0.1)
    assert conv2.with_copies("H200", True) == pytest.approx(tensor)
    assert found["conv2", "weight gradient"].by_tma is None


def numbers(text, column, key):
    """A column of a printed table, by its columns `key`."""
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in text.splitlines()]
    of_rows = [row for row in rows[2:] if len(row) == len(rows[0])]
    at = [rows[0].index(name) for name in (column, *key)]
    return {tuple(row[i] for i in at[1:]): float(row[at[0]].replace(",", "")) for row in of_rows}


def test_a_step_is_the_sum_of_its_kernels():
    """Of what the other tables print, rounded: the largest bound of each, by wgmma."""
    key, card = ("layer", "op"), "memory, H100"
    times = [
        numbers(expected.convolutions(128), name, key) for name in ("tensor", "issue, wgmma", card)
    ]
    convolutions = sum(max(one[at] for one in times) for at in times[0])
    dense = expected.bounds(expected.dense(128), products=True)
    times = [numbers(dense, name, key) for name in ("tensor", card)]
    of_dense = sum(max(one[at] for one in times) for at in times[0])
    moved = expected.bounds(expected.memory_bound(128), products=False)
    bound = numbers(moved, card, ("kernel", "in a step"))
    others = sum(time for (_, where), time in bound.items() if where == "alone")
    printed = expected.totals((128,))
    [row] = [row for row in printed.splitlines() if "| H100 | wgmma |" in row]
    cells = [cell.strip().replace(",", "") for cell in row.strip("|").split("|")]
    assert [float(cells[i]) for i in (3, 5, 6)] == pytest.approx(
        [convolutions, of_dense, others], abs=7
    )
    total = convolutions + of_dense + others
    assert float(cells[7]) == pytest.approx(total, abs=7)
    assert float(cells[8]) == pytest.approx(128e6 / total, rel=0.01)


@pytest.mark.parametrize("batch", [128, 512, 2048])
def test_no_weight_gradient_leaves_most_of_a_wave_empty(batch):
    for e in expected.expected(batch):
        if e.op == "weight gradient":
            assert 3 < e.blocks / 132 <= 4, e


def test_a_table_for_each_batch():
    assert "| conv2 | input gradient | 48 |" in expected.text(128)


def test_what_towers_exchange_by_hand():
    """Of the other tower: 128 of 256 channels of 13 x 13 pixels, then 2,048 of 4,096 units."""
    found = {layer: megabytes for layer, megabytes, _ in exchange.towers(100)}
    assert found["conv3"] == pytest.approx(4.3264)
    assert found["fc7"] == found["fc8"] == pytest.approx(0.4096)
    assert list(found) == ["conv3", "fc6", "fc7", "fc8"]


DOCS = Path(__file__).parents[2] / "docs"


def test_the_documentation_has_the_printed_tables():
    page = (DOCS / "performance-gpu.md").read_text(encoding="utf-8")
    assert expected.totals() in page
    assert products.predictions(788e12, 4.3e12, 128) in page
    assert expected.gains(128) in page
    assert expected.copies(128) in page
    assert expected.totals_with_copies() in page
    assert exchange.text(128) in page
    assert exchange.text(2048) in page
    for batch in expected.BATCHES:
        assert expected.convolutions(batch) in page
        assert expected.bounds(expected.dense(batch), products=True) in page
        assert expected.bounds(expected.memory_bound(batch), products=False) in page
    for (op, tile), ways in expected.COUNTS.items():
        for by, (used, instructions) in zip(("mma", "wgmma"), ways, strict=True):
            row = f"{expected.FAMILIES[op]} | {tile} | {by}"
            assert f"| {row} | {used} | {instructions} |" in page
    every = parts.listed(Plan(checks=True, data="DATA"))
    assert every in (DOCS / "gpu.md").read_text(encoding="utf-8")


def test_registers_are_read_from_the_assemblers_report():
    said = "Compiling entry function 'one'\nUsed 12 registers\n"
    said += "Compiling entry function 'conv'\n0 bytes stack\nUsed 241 registers, 1 barriers"
    assert registers(said, "conv") == 241
