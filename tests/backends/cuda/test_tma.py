"""Convolution with pixels copied once for all taps of the kernel (conv_tma.cu)."""

import re

import cuda_on_cpu
import numpy as np
import pytest
from helpers.convolutions import as_stored, check
from helpers.strategies import grid
from hypothesis import given, settings
from hypothesis import strategies as st

from minialex import backends
from minialex.backends.cuda import implicit, kernels, shifts, tensor_map
from minialex.backends.cuda.convolution import CudaConvolution
from minialex.backends.cuda.graph import Recording
from minialex.errors import InputError
from minialex.testing.tolerance import assert_close


def by_tma(precision="bf16"):
    b = backends.get("cupy", 0, precision)
    if not b.has_warpgroup_products:
        pytest.skip("TMA and wgmma are for compute capability 9.0")
    b.convolution_by = "tma"
    return b


@pytest.fixture
def launched(monkeypatch):
    """For each convolution whether conv_tma.cu has computed it, in order."""
    found, run = [], CudaConvolution._by_tma
    monkeypatch.setattr(
        CudaConvolution, "_by_tma", lambda *given: [found.append(run(*given)), found[-1]][1]
    )
    return found


@st.composite
def convolutions(draw, channels):
    """(image, kernel, outputs, stride, pads, groups), with more zeros than a window at times."""
    kernel = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    pads = tuple((draw(st.integers(0, k)), draw(st.integers(0, k))) for k in kernel)
    low = [max(1, k - sum(p)) for k, p in zip(kernel, pads, strict=True)]
    height, width = (draw(st.integers(least, least + 9)) for least in low)
    groups = draw(st.sampled_from([1, 1, 2]))
    cg, kg = (draw(st.sampled_from(channels)) for _ in range(2))
    image = (draw(st.integers(1, 3)), height, width, groups * cg)
    return image, kernel, groups * kg, (1, 1), pads, groups


@pytest.mark.parametrize(
    ("precision", "width", "channels"),
    [("bf16", 64, [48, 64, 96]), ("fp16", 96, [48, 64]), ("bf16", 128, [48, 128, 144])],
)
@given(data=st.data(), seed=st.integers(0, 99))
@settings(max_examples=8)
def test_any_convolution_with_a_stride_of_1(precision, width, channels, data, seed):
    """Both passes on every width of tiles, with kernels, padding and groups as drawn."""
    problem = data.draw(convolutions(channels))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "TILES", (width,))
        check(by_tma(precision), precision, problem, seed)


PROBLEM = ((13, 8, 8, 192), (3, 2), 64, (1, 1), ((1, 1), (1, 0)), 1)


def test_more_tiles_than_blocks_and_more_steps_than_buffers(launched):
    """A block's buffers and barriers are used again and again; the same bits every time."""
    first, again = (check(by_tma(), "bf16", PROBLEM) for _ in range(2))
    assert launched == [True] * 8
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_the_kernel_cannot_compute_is_left_to_others(launched):
    for image, outputs, stride in (((1, 9, 9, 64), 64, 2), ((1, 9, 9, 40), 64, 1)):
        problem = (image, (3, 3), outputs, (stride,) * 2, ((1, 1), (1, 1)), 1)
        check(by_tma(), "bf16", problem)
    assert launched[:4] == [False] * 4
    # 40 channels cannot be summed over, but they can be the outputs of an input gradient
    assert launched[4:] == [False, False, True, True]
    b = by_tma()
    x = as_stored(grid((1, 6, 6, 64), 0), "bf16")
    w = b.asarray(as_stored(grid((3, 3, 64, 64), 1), "bf16"), "bfloat16")
    geometry = ((1, 1), ((1, 1), (1, 1)), 1)
    wanted = b.convolution(b.asarray(x, "bfloat16"), w, None, *geometry)
    for skipped in (1, 8):  # to an address of 2 bytes, and of 16
        flat = b.asarray(np.concatenate((np.zeros(skipped), x.ravel())), "bfloat16")
        found = b.convolution(flat[skipped:].reshape(x.shape), w, None, *geometry)
        assert_close(b.to_numpy(found), b.to_numpy(wanted).astype(float), "bfloat16", 1)
    assert launched[8:] == [True, False, False]


def test_64_bit_indices(monkeypatch):
    monkeypatch.setattr(kernels, "_INDEX_LIMIT", 0)
    check(by_tma(), "bf16", ((2, 7, 9, 64), (3, 3), 48, (1, 1), ((1, 1), (1, 1)), 1))


def test_a_captured_convolution_reads_its_arrays_anew():
    """Tensor maps are passed by value: a graph keeps them, and they keep only addresses."""
    b, geometry = by_tma(), ((1, 1), ((1, 1), (1, 1)), 1)
    images = [as_stored(grid((1, 6, 6, 64), seed), "bf16") for seed in (0, 1)]
    w = b.asarray(as_stored(grid((3, 3, 64, 64), 2), "bf16"), "bfloat16")
    x, other = (b.asarray(image, "bfloat16") for image in images)
    found = []

    def body():
        found[:] = [b.convolution(x, w, None, *geometry)]

    recording = Recording(b.stream, body)
    x.set(b.to_numpy(other))
    recording.run()
    wanted = b.to_numpy(b.convolution(other, w, None, *geometry))
    np.testing.assert_array_equal(b.to_numpy(found[0]), wanted)


def sizes(image, kernel, channels, pad, groups=1):
    pads = ((pad, pad), (pad, pad))
    return implicit.Convolution.of(image, (kernel,) * 2, channels, (1, 1), pads, groups)


def test_padding_is_shared_by_neighbouring_rows():
    """The paper's layers at batch size 128, worked out by hand."""
    first = shifts.forward(sizes((128, 57, 57, 48), 3, 96, 0))  # in blocks of 4 x 4 pixels
    assert first is not None
    assert (first.pitch, first.rows, first.slices, first.tile) == (57, 57, 3, 96)
    second = sizes((128, 27, 27, 96), 5, 256, 2, 2)
    forward, backward = shifts.forward(second), shifts.input_gradient(second)
    assert forward is not None
    assert backward is not None
    # two columns of zeros between rows of 27, instead of two on each side
    assert (forward.pitch, forward.rows, forward.slices, forward.tile) == (29, 29, 3, 128)
    assert (backward.pitch, backward.rows, backward.slices, backward.tile) == (29, 29, 4, 48)
    # a tile's first pixel may be the last of its row; its last reads 4 rows and 4 pixels further
    assert forward.height == -(-(28 + 256 + 4 * 29 + 4) // 29) == 14
    assert forward.bytes == 14 * 29 * 128 + 256
    assert forward.pixels == (127 * 29 + 26) * 29 + 27
    assert forward.tiles == 421 * 2
    third = shifts.input_gradient(sizes((128, 13, 13, 256), 3, 384, 1))
    assert third is not None
    assert (third.pitch, third.rows, third.corner, third.inside) == (14, 14, (1, 1), 384)


def test_sizes_are_those_of_the_kernel():
    text = kernels.source("conv_tma")
    for name, value in (
        ("MULTIPLIERS", shifts.THREADS - 32),
        ("PIXELS", shifts.PIXELS),
        ("PIXEL_BYTES", shifts._PIXEL_BYTES),
        ("WEIGHT_STAGES", shifts._WEIGHT_STAGES),
    ):
        assert re.search(rf"#define {name} {value}\b", text), name
    listed = re.search(r"struct Shifts \{\s+int ([^;]+);", text)
    assert listed is not None
    assert tuple(listed[1].split(", ")) == shifts._NAMES
    # more than a box's 256 pixels in a row; too large for shared memory
    assert shifts.forward(sizes((1, 6, 300, 64), 3, 64, 1)) is None
    assert shifts.forward(sizes((1, 120, 120, 64), 9, 128, 4)) is None
    assert shifts.forward(sizes((1, 6, 6, 64), 3, 64, 1)) is not None


@pytest.mark.standin
def test_tensor_maps_that_the_driver_refuses(monkeypatch):
    b = by_tma()
    x = b.asarray(np.zeros((4, 5, 64)), "bfloat16")
    tensor_map.of(x, (64, 5, 4), (64, 5, 1))
    for array, shape, box in (
        (x, (64, 5, 4), (64, 257, 1)),
        (x, (64, 5, 4), (64, 0, 1)),
        (x, (20, 5, 4), (64, 5, 1)),  # rows of 40 bytes
        (x.reshape(-1)[1:], (64, 5, 4), (64, 5, 1)),
    ):
        with pytest.raises(RuntimeError, match="cuTensorMapEncodeTiled failed with status 1"):
            tensor_map.of(array, shape, box)
    monkeypatch.setattr(tensor_map, "_encode", lambda: None)
    with pytest.raises(InputError, match="driver of CUDA"):
        b.convolution_by = "tma"


COPIED = "wait(&b.weights_there[stage], step / WEIGHT_STAGES & 1);"
RELEASED = "close_products();\n                wait_products<1>();"
FREE = "wait(&b.weights_free[stage], (step / WEIGHT_STAGES & 1) ^ 1);"


@pytest.mark.standin
@pytest.mark.parametrize(
    ("right", "mistaken"),
    [
        (COPIED, ""),
        # each of these compiles for some seconds
        *(
            pytest.param(*mistake, marks=pytest.mark.slow)
            for mistake in (
                (COPIED, COPIED.replace("& 1", "& 1 ^ 1")),
                (FREE, ""),
                (FREE, FREE.replace(" ^ 1)", ")")),
                ("wait(&b.pixels_there[slab % 2], slab / 2 & 1);", ""),
                ("wait(&b.pixels_free[buffer], (slab / 2 & 1) ^ 1);", ""),
                (RELEASED, RELEASED.replace("<1>", "<2>")),
                ("if (last) leave(", "if (tap == o.R * o.S - 1) leave("),
                ("pixels_free[i], MULTIPLIERS / 32)", "pixels_free[i], MULTIPLIERS / 32 - 1)"),
                ("weights_there[stage], WEIGHT_BYTES)", "weights_there[stage], WEIGHT_BYTES / 2)"),
                ("c, -o.left,", "c, o.left,"),
                ("(int)(row % o.rows) - o.top", "(int)(row % o.rows)"),
                ("turned = o.R * o.S - 1 - tap", "turned = tap"),
                ("tap / o.S * o.pitch", "tap / o.S * o.W"),
                ("stride = 8 * PIXEL_BYTES / 16", "stride = 4 * PIXEL_BYTES / 16"),
                ("threadIdx.x / 128 * 64 + i / 2 * 64", "i / 2 * 64"),
            )
        ),
    ],
)
def test_a_planted_bug_is_caught(monkeypatch, right, mistaken):
    """A missing wait, the wrong phase, the wrong box, and others."""
    b, text = by_tma(), kernels.source("conv_tma")
    assert text.count(right) == 1
    source = kernels.source
    for cached in (kernels._module, kernels._function):
        cached.cache_clear()
    with monkeypatch.context() as patch:
        changed = {"conv_tma": text.replace(right, mistaken)}
        patch.setattr(kernels, "source", lambda family: changed.get(family) or source(family))
        with pytest.raises((AssertionError, RuntimeError), match=r"off by|not equal|conv_tma: "):
            check(b, "bf16", PROBLEM)
    for cached in (kernels._module, kernels._function):
        cached.cache_clear()
    _let_end()


def _let_end():
    """Run what is still in the streams, which may fail again, before the next test does."""
    while True:
        try:
            return cuda_on_cpu.machine.drain()
        except RuntimeError:
            pass
