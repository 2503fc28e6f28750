"""The expected times of the convolutions, and the machine code that they are computed from."""

from pathlib import Path

import pytest

from minialex.bench.gpu import expected, parts, products
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
    # four blocks on the busiest of 132, each 72 steps of 128 x 128 x 32 multiply-adds
    assert conv3.mma.tensor == pytest.approx(1e6 * 4 * 72 * 128 * 128 * 32 / 2048 / 1.755e9)
    assert conv3.mma.issue == pytest.approx(1e6 * 4 * 72 * 313 / 1.755e9)
    assert found["conv2", "input gradient"].useful == 1  # 48 of 48 columns


def test_the_first_layer_is_computed_in_blocks():
    found = {(e.layer, e.op): e for e in expected.expected(128)}
    conv1 = found["conv1", "forward"]
    # kernels of 3 x 3 on 48 channels: 13.5 steps of 32 numbers, rounded up
    assert conv1.mma.tensor == pytest.approx(1e6 * 23 * 14 * 128 * 96 * 32 / 2048 / 1.755e9)
    assert conv1.useful == pytest.approx(11 * 11 * 3 / (14 * 32))


def test_dense_layers_and_memory_by_hand():
    fc6 = next(iter(expected.dense(128)))
    assert fc6.megabytes == pytest.approx(2 * (128 * 9216 + 9216 * 4096 + 128 * 4096) / 1e6)
    assert fc6.tensor == pytest.approx(1e6 * 128 * 9216 * 4096 / 2048 / 132 / 1.755e9)
    moved = {one.layer: one for one in expected.memory_bound(128)}
    assert moved["update"].megabytes == pytest.approx(20 * 60_965_224 / 1e6)
    assert moved["update"].memory["H100"] == pytest.approx(20 * 60_965_224 / 3.35e6)
    # read 128 x 55 x 55 x 96 numbers; write 27 x 27 maxima of 2 bytes, and where they were
    assert moved["norm1 and pool1"].megabytes == pytest.approx(
        128 * 96 * (2 * 55 * 55 + 4 * 27 * 27) / 1e6
    )
    biases = [f"relu{i}" for i in range(1, 6) if moved[f"relu{i}'s bias, backward"].alone]
    assert biases == ["relu3"]  # whose rows fill its tiles


def test_a_step_is_the_sum_of_its_kernels():
    total = sum(e.least("H100", True) for e in expected.expected(128))
    total += sum(one.least("H100") for one in expected.dense(128))
    total += sum(one.least("H100") for one in expected.memory_bound(128) if one.alone)
    assert expected.step(128, "H100", True) == pytest.approx(total)
    assert f"| {total:,.0f} | {128e6 / total:,.0f} |" in expected.totals((128,))


@pytest.mark.parametrize("batch", [128, 512, 2048])
def test_no_weight_gradient_leaves_most_of_a_wave_empty(batch):
    for e in expected.expected(batch):
        if e.op == "weight gradient":
            assert 3 < e.blocks / 132 <= 4, e


def test_a_table_for_each_batch():
    assert "| conv2 | input gradient | 48 |" in expected.text(128)


DOCS = Path(__file__).parents[2] / "docs"


def test_the_documentation_has_the_printed_tables():
    page = (DOCS / "performance-gpu.md").read_text(encoding="utf-8")
    assert expected.totals() in page
    assert products.predictions(788e12, 4.3e12, 128) in page
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
