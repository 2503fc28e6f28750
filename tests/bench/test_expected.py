"""The expected times of the convolutions, and the machine code that they are computed from."""

import pytest

from minialex.bench.gpu import expected
from minialex.bench.gpu.sass import inner_loop

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
    # two waves of two blocks, each 72 steps of 128 x 128 x 32 multiply-adds
    assert conv3.tensor == pytest.approx(1e6 * 4 * 72 * 128 * 128 * 32 / 2048 / 1.755e9)
    assert found["conv2", "input gradient"].useful == 0.75  # 48 of 64 columns


@pytest.mark.parametrize("batch", [128, 512, 2048])
def test_no_weight_gradient_leaves_most_of_a_wave_empty(batch):
    for e in expected.expected(batch):
        if e.op == "weight gradient":
            assert 1.5 < e.waves <= 2, e


def test_a_table_for_each_batch():
    assert "| conv2 | input gradient | 64 |" in expected.text(128)
