"""Convolution on tensor cores (tensor.cuh): every tile, every way to copy, every precision."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.convolutions import PRECISIONS, all_three, as_stored, check
from helpers.strategies import grid
from hypothesis import given, settings
from hypothesis import strategies as st

from minialex import backends
from minialex.backends.cuda import implicit, kernels
from minialex.errors import InputError
from minialex.testing.tolerance import assert_close

# tile width and channels per group: each width and copy size is compiled separately
DRAWN = {
    "bf16": (64, [1, 3, 4, 8, 12, 16, 40]),
    "fp16": (96, [8, 16, 40, 104]),
    "tf32": (128, [1, 3, 4, 12, 40]),
}
# several tiles, steps and groups of copies; its input gradient has 48 columns
LAYER = ((2, 9, 9, 48), (3, 3), 104, (1, 1), ((1, 1), (1, 1)), 1)


@st.composite
def convolutions(draw, channels):
    """(image, kernel, outputs, stride, pads, groups); `channels` are the choices per group."""
    kernel = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    stride = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    pads = tuple((draw(st.integers(0, k)), draw(st.integers(0, k))) for k in kernel)
    low = [max(1, k - sum(p)) for k, p in zip(kernel, pads, strict=True)]
    height, width = (draw(st.integers(least, least + 9)) for least in low)
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    cg, kg = (draw(st.sampled_from(channels)) for _ in range(2))
    image = (draw(st.integers(1, 3)), height, width, groups * cg)
    return image, kernel, groups * kg, stride, pads, groups


@pytest.mark.parametrize("precision", PRECISIONS)
@given(data=st.data(), seed=st.integers(0, 99))
@settings(max_examples=25)
def test_implicit_convolution(precision, data, seed):
    """The sums of any tile, with the weight gradient's windows split into several parts."""
    by_any_tile("implicit", precision, *DRAWN[precision], data, seed)


@pytest.mark.parametrize(
    ("precision", "width", "channels"),
    [("bf16", 64, [1, 3, 8, 40]), ("bf16", 128, [8, 40, 104]), ("fp16", 96, [8, 40, 104])],
)
@given(data=st.data(), seed=st.integers(0, 99))
@settings(max_examples=12)
def test_warpgroup_products(precision, width, channels, data, seed):
    """The same by warpgroup products, on devices that have them."""
    by_any_tile("wgmma", precision, width, channels, data, seed)


def by_any_tile(way, precision, width, channels, data, seed):
    problem = data.draw(convolutions(channels))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "TILES", (width,))
        if width > 64:  # also for input gradients of up to 48 channels
            patch.setattr(kernels, "NARROW", 0)
        patch.setattr(implicit, "_STEPS", 1)
        b = backends.get("cupy", 0, precision)
        assert b.convolution_by == "implicit"
        if way == "wgmma" and not b.has_warpgroup_products:
            pytest.skip("wgmma is for compute capability 9.0")
        b.convolution_by = way
        check(b, precision, problem, seed)


@pytest.mark.parametrize("precision", ["bf16", "tf32"])
@pytest.mark.parametrize(
    "problem",
    [
        (
            (1, 27, 31, 3),
            (11, 11),
            96,
            (4, 4),
            ((0, 1), (0, 1)),
            1,
        ),  # three channels padded to four
        ((1, 13, 12, 96), (5, 5), 256, (1, 1), ((2, 2), (2, 2)), 2),
        ((2, 9, 9, 48), (3, 3), 104, (1, 1), ((1, 1), (1, 1)), 1),
    ],
)
def test_scaled_down_layers_of_the_paper(precision, problem):
    """Several tiles in each direction, more steps than stages; and the same bits every time."""
    b = backends.get("cupy", 0, precision)
    first, again = (check(b, precision, problem) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("precision", ["bf16", "tf32"])
def test_images_padded_to_four_channels(precision):
    """The same bits as with three channels, without the pass that pads."""
    b, dtype = backends.get("cupy", 0, precision), PRECISIONS[precision]
    x, geometry = grid((2, 9, 11, 3), 0), ((1, 1), ((0, 1), (0, 1)), 1)
    weight = b.asarray(grid((5, 5, 3, 96), 1), dtype)
    assert b.channels_to_copy(3, 96, 1, "float32") == 4
    found = []
    for channels in (3, 4):
        images = np.zeros((*x.shape[:3], channels))
        images[..., :3] = x
        given = b.asarray(images, dtype)
        y = b.convolution(given, weight, None, *geometry)
        gradients = b.convolution_parameter_gradients(given, y, weight.shape, *geometry)
        found.append([b.to_numpy(a) for a in (y, *gradients)])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    columns = backends.get("cupy", 0, precision)
    columns.convolution_by = "im2col"
    assert columns.channels_to_copy(3, 96, 1, "float32") == 3
    with pytest.raises(TypeError, match="4 channels for weights of 1 x 3"):
        columns.convolution(given, weight, None, *geometry)


@pytest.mark.parametrize("precision", ["bf16", "tf32"])
@pytest.mark.parametrize(("size", "kernel", "side"), [(27, 11, 4), (30, 11, 4), (29, 8, 4)])
def test_images_in_blocks(precision, size, kernel, side):
    """The same bits as from plain images, which a pass puts in blocks; and right sums."""
    b, dtype = backends.get("cupy", 0, precision), PRECISIONS[precision]
    check(b, precision, ((2, size, size, 3), (kernel,) * 2, 96, (side,) * 2, ((0, 0),) * 2, 1))
    images, geometry = grid((2, size, size, 3), 0), ((side, side), ((0, 0), (0, 0)), 1)
    weight = b.asarray(grid((kernel, kernel, 3, 96), 1), dtype)
    count = (size - kernel) // side + -(-kernel // side)
    given = b.asarray(images, dtype), in_blocks(b, images, side, count, dtype)
    found = []
    for x in given:
        y = b.convolution(x, weight, None, *geometry)
        gradients = b.convolution_parameter_gradients(x, y, weight.shape, *geometry)
        found.append([b.to_numpy(a) for a in (y, *gradients)])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def in_blocks(b, images, side, count, dtype):
    """Squares of pixels as channels; pixels that are missing are zeros."""
    n, size, _, c = images.shape
    extent = side * count
    wide = np.zeros((n, extent + size, extent + size, c))
    wide[:, :size, :size] = images
    squares = wide[:, :extent, :extent].reshape(n, count, side, count, side, c)
    return b.asarray(squares.transpose(0, 1, 3, 2, 4, 5).reshape(n, count, count, -1), dtype)


def test_only_some_convolutions_take_blocks():
    b = backends.get("cupy", 0, "bf16")
    assert b.input_blocks(227, 3, 96, 1, (11, 4), "float32") == (4, 57)  # the paper's
    assert b.input_blocks(227, 3, 96, 1, (11, 1), "float32") is None
    assert b.input_blocks(227, 8, 96, 1, (11, 4), "float32") is None  # 16 bytes as they are
    assert b.input_blocks(227, 3, 96, 1, (3, 4), "float32") is None  # 16 pixels instead of 9
    assert b.input_blocks(227, 3, 90, 1, (11, 4), "float32") is None
    assert b.input_blocks(32, 3, 96, 1, (11, 4), "float32") is None  # fewer blocks than the kernel
    b.convolution_by = "im2col"
    assert b.input_blocks(227, 3, 96, 1, (11, 4), "float32") is None


@pytest.mark.parametrize("precision", ["bf16", "tf32"])
def test_implicit_and_im2col_agree(precision):
    problem = ((2, 9, 8, 16), (3, 3), 32, (1, 1), ((1, 1), (1, 1)), 2)
    b, columns = (backends.get("cupy", 0, precision) for _ in range(2))
    columns.convolution_by = "im2col"
    found, by_columns = (all_three(one, PRECISIONS[precision], problem)[0] for one in (b, columns))
    for ours, theirs in zip(found[:3], by_columns[:3], strict=True):
        assert_close(ours, theirs, PRECISIONS[precision], 300)
    assert_close(found[3], by_columns[3], "float32", 300)
    assert b.with_own_stream().convolution_by == "implicit"
    assert columns.with_own_stream().convolution_by == "im2col"


@pytest.mark.parametrize("width", [*kernels.TILES, kernels.NARROW])
def test_shared_memory_of_warpgroup_products(width):
    """STAGES stages as in wgmma.cuh, and the space to align the first to 1,024 bytes."""
    text = kernels.source("conv_forward").partition('#line 1 "wgmma.cuh"')[2]
    stages = int(re.search(r"#define STAGES (\d+)", text)[1])
    assert "#define STAGE_CHUNKS (LEFT_CHUNKS + TILE_N * 4)" in text
    assert "#define LEFT_CHUNKS (TILE_M * 4)" in text
    aligned = SimpleNamespace(data=SimpleNamespace(ptr=0))
    how = implicit.launch_shape(128, width, 1, 8, (aligned,), warpgroups=True, narrow=True)
    assert how["shared"] == stages * (128 * 4 + width * 4) * 16 + 1024


def test_unsupported_convolution_algorithms_are_refused():
    b = backends.get("cupy", 0, "tf32")
    assert not b.has_warpgroup_products
    with pytest.raises(InputError, match="wgmma needs bf16 or fp16"):
        b.convolution_by = "wgmma"
    with pytest.raises(InputError, match="did you mean 'implicit'"):
        b.convolution_by = "implict"
    assert b.convolution_by == "implicit"


def test_any_layout_and_64_bit_indices(monkeypatch):
    b = backends.get("cupy", 0, "bf16")
    x = as_stored(grid((2, 5, 6, 8), 0), "bf16").astype("float32")
    geometry = ((1, 1), ((1, 1), (1, 1)), 1)
    w = b.asarray(as_stored(grid((3, 3, 8, 16), 1), "bf16"), "bfloat16")
    wanted = b.to_numpy(b.convolution(b.asarray(x, "bfloat16"), w, None, *geometry))
    turned = b.asarray(np.ascontiguousarray(x.T), "bfloat16").T
    shifted = b.asarray(np.concatenate(([0], x.ravel())), "bfloat16")[1:].reshape(x.shape)
    for view in (turned, shifted):
        found = b.to_numpy(b.convolution(view, w, None, *geometry))
        np.testing.assert_array_equal(found, wanted)
    monkeypatch.setattr(kernels, "_INDEX_LIMIT", 0)
    found = b.to_numpy(b.convolution(b.asarray(x, "bfloat16"), w, None, *geometry))
    np.testing.assert_array_equal(found, wanted)


def test_chosen_tiles_and_parts():
    """The tiling of the paper's layers, on which the sums and their bits depend."""
    assert [implicit.tile(k) for k in (96, 128, 384, 192, 48, 1000)] == [96, 128, 128, 96, 64, 128]
    # without a quarter of padding for the second layer's input gradient, 48 channels in each group
    assert [implicit.tile(k, narrow=True) for k in (1, 48, 49, 96, 192)] == [48, 48, 64, 96, 96]
    sizes = implicit.Convolution.of((128, 27, 27, 96), (5, 5), 256, (1, 1), ((2, 2), (2, 2)), 2)
    parts, share = sizes.parts(2)
    assert (parts - 1) * share < sizes.pixels <= parts * share
    assert share % 32 == 0
    first = implicit.Convolution.of((1, 227, 227, 3), (11, 11), 96, (4, 4), ((0, 0),) * 2, 1)
    assert (first.channels_to_copy(2), first.vector(2)) == (4, 1)
    padded = first.with_channels(4)
    assert (padded.cg, padded.vector(2), padded.vector(4)) == (3, 4, 4)


# the stand-in's loads, of which those that a GPU does at once must use all 32 banks: else NaN
OFF_THE_GPU = (
    "#else  // off the GPU: publish and published let the lanes of a warp read each other's"
)
ALL_BANKS = """
__device__ bool all_banks(int first, int lanes, int bytes) {
    unsigned used = 0;
    for (int lane = 0; lane < lanes; ++lane)
        used |= 1u << ((size_t)published<const char*>(first + lane) / bytes % lanes);
    return used == (lanes == 32 ? ~0u : (1u << lanes) - 1);
}
#define WORD(good, word) ((good) ? (word) : 0x7fc07fc0u)
"""
FOUR_ROWS = ("published<const Chunk*>(8 * i + g)->w[t]", "pair[0] | (unsigned)pair[1] << 16")
ONE_WORD = "return tile[across(k, column / 4, columns)].w[column % 4];"
WORD = """
    const unsigned* word = &tile[across(k, column / 4, columns)].w[column % 4];
    publish(word);
    __syncwarp();
    const unsigned found = WORD(all_banks(0, 32, 4), *word);
    __syncwarp();
    return found;
"""


def with_banks(text):
    """The source of a kernel that gives NaN if its loads from shared memory wait for each other."""
    changes = [(ONE_WORD, WORD)]
    changes += [(row, f"WORD(all_banks(8 * i, 8, 16), {row})") for row in FOUR_ROWS]
    for plain, checked in changes:
        assert text.count(plain) == 1
        text = text.replace(plain, checked)
    head, end, rest = text.partition(OFF_THE_GPU)
    line, _, rest = rest.partition("\n")
    return head + end + line + ALL_BANKS + rest


@pytest.mark.standin
@pytest.mark.parametrize(
    ("precision", "width", "right", "mistaken"),
    [
        ("bf16", 128, "", ""),
        ("tf32", 96, "", ""),
        # each compiles for some seconds; those without a swizzle give the same sums
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                *(("bf16", 96, "", ""), ("bf16", 64, "", "")),
                *(("tf32", 128, "", ""), ("tf32", 64, "", "")),
                ("bf16", 128, "(chunk ^ (row >> 1 & 3))", "chunk"),
                ("bf16", 128, "(chunk ^ swizzle)", "chunk"),
                ("tf32", 128, "(chunk ^ swizzle)", "chunk"),
                ("tf32", 128, "(k & 3) << 1", "k & 3"),
            )
        ),
    ],
)
def test_loads_use_all_banks_of_shared_memory(monkeypatch, precision, width, right, mistaken):
    """Without swizzle the results are right too, but the loads take several times as long."""
    texts = {family: kernels.source(family) for family in kernels.files()}
    texts |= {family: with_banks(texts[family]) for family in kernels.TENSOR_FAMILIES}
    b = backends.get("cupy", 0, precision)
    for cached in (kernels._module, kernels._function):
        cached.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(kernels, "TILES", (width,))
        patch.setattr(kernels, "source", lambda family: texts[family].replace(right, mistaken))
        if right:
            assert all(texts[family].count(right) == 1 for family in kernels.TENSOR_FAMILIES)
            with pytest.raises(AssertionError, match=r"off by|not equal"):
                check(b, precision, LAYER)
        else:
            check(b, precision, LAYER)
    for cached in (kernels._module, kernels._function):
        cached.cache_clear()


@pytest.mark.standin
@pytest.mark.parametrize(
    ("way", "right", "mistaken"),
    [
        # reads a tile too early
        ("implicit", "wait_copies<STAGES - 2>()", "wait_copies<STAGES - 1>()"),
        ("wgmma", "wait_copies<AHEAD - 1>()", "wait_copies<AHEAD>()"),
        # each of these compiles for some seconds
        *(
            pytest.param(*mistake, marks=pytest.mark.slow)
            for mistake in (
                ("implicit", "__syncthreads();  // this stage has", "// this stage has"),
                ("wgmma", "__syncthreads();  // this step's tiles", "// this step's tiles"),
                ("implicit", "c1 == 0)", "c1 == 1)"),  # the position of the row of ones
                # overwrites a tile that products still read
                ("wgmma", "wait_products<1>();", "wait_products<2>();"),
                (
                    "implicit",
                    "lane % 8 + lane / 16 * 8;\n            load_transposed",
                    "lane % 8;\n            load_transposed",
                ),
                ("wgmma", "slice * 16 * strip", "slice * 8 * strip"),
                ("wgmma", "leading = ALONG ? 1 : DEPTH * strip", "leading = 8 * strip"),
                ("wgmma", "(strip == 8 ? 1 : 2) << 62", "1 << 62"),
                ("implicit", "warp / WARPS_ACROSS * 16 * M_TILES;", "warp / 2 * 64;"),
                ("wgmma", "row >= TILE_N) break;", "row >= TILE_N) {}"),
                ("implicit", "advance(next, o, DEPTH);", "advance(next, o, VECTOR);"),
            )
        ),
    ],
)
def test_a_planted_bug_is_caught(monkeypatch, way, right, mistaken):
    b = backends.get("cupy", 0, "bf16")
    b.convolution_by = way
    texts = {family: kernels.source(family) for family in kernels.files()}
    assert max(texts[family].count(right) for family in kernels.TENSOR_FAMILIES) == 1
    for cached in (kernels._module, kernels._function):
        cached.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(kernels, "source", lambda family: texts[family].replace(right, mistaken))
        with pytest.raises(AssertionError, match=r"off by|not equal"):
            check(b, "bf16", LAYER)
    for cached in (kernels._module, kernels._function):
        cached.cache_clear()
