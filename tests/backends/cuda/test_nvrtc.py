"""Every kernel compiles for every architecture and precision, silently and without spills."""

import re

import pytest
from helpers import nvrtc
from helpers.nvrtc import complaints

from minialex.backends.cuda import kernels

FAST = (128, "float16")  # the tile and precision of warpgroup products in the fast tests
# 9.0 also with its own features
WANTED = ((7, 0), (7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0))
COMPILERS = sorted(nvrtc.libraries())

pytestmark = [
    pytest.mark.standin,
    pytest.mark.skipif(
        nvrtc.library() is None,
        reason="NVRTC is not installed: pip install nvidia-cuda-nvrtc-cu12",
    ),
]


WITH_OPTIONS = (*kernels.TENSOR_FAMILIES, kernels.TMA_FAMILY)
PLAIN = [family for family in kernels.files() if family not in WITH_OPTIONS]


@pytest.mark.parametrize("family", PLAIN)
def test_oldest_and_newest_architecture_compile(family):
    known = [10 * major + minor for major, minor in WANTED]
    known = [a for a in known if a in nvrtc.architectures()]
    for storage, architecture in (("float32", known[0]), ("bfloat16", known[-1])):
        options = kernels.options(storage, False)
        assert complaints(kernels.source(family), architecture, options) == []


@pytest.mark.parametrize("family", kernels.files())
def test_no_pragma_has_a_macro(family):
    """NVRTC would replace it, nvcc does not."""
    source = kernels.source(family)
    macros = set(re.findall(r"#define (\w+)", source))
    assert macros.isdisjoint(re.findall(r"#pragma unroll (\w+)", source))


@pytest.mark.slow
@pytest.mark.parametrize("wide_index", [False, True], ids=["32-bit", "64-bit"])
@pytest.mark.parametrize("capability", WANTED, ids=lambda c: "{}.{}".format(*c))
@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("family", kernels.files())
def test_everything_that_the_backend_may_ask_for_compiles(family, compiler, capability, wide_index):
    architecture = 10 * capability[0] + capability[1]
    if architecture not in nvrtc.architectures(compiler):
        pytest.skip(f"NVRTC {compiler} does not compile for it")
    for _, storage, more in (v for v in kernels.variants(capability) if v[0] == family):
        options = kernels.options(storage, wide_index, more)
        own = "90a" if "-arch=sm_90a" in options else architecture
        options = tuple(o for o in options if not o.startswith("-arch="))
        found = complaints(kernels.source(family), own, options, compiler)
        assert found == [], (storage, more)


@pytest.mark.parametrize("storage", kernels.STORAGES)
@pytest.mark.parametrize("family", kernels.TENSOR_FAMILIES)
def test_tensor_core_products_compile(family, storage):
    """The most common tile with the widest copies; no options for kernels without tiles."""
    best = kernels.tile_options(128, kernels.VECTORS.get(storage, (1,))[0])
    for architecture in (75, 90):
        options = kernels.options(storage, False, best)
        assert complaints(kernels.source(family), architecture, options) == []


@pytest.mark.parametrize(
    ("family", "tile", "storage"),
    [
        pytest.param(*case, marks=pytest.mark.slow if case[1:] != FAST else ())
        for family in kernels.TENSOR_FAMILIES
        for tile in kernels.tiles(family)
        for storage in ("float16", "bfloat16")
        for case in [(family, tile, storage)]
    ],
)
def test_warpgroup_products_compile(family, tile, storage):
    """Compiled for 9.0's own features; the compiler warns if products cannot overlap."""
    if 90 not in nvrtc.architectures():
        pytest.skip("this NVRTC does not know 9.0")
    options = warpgroup_options(storage, tile)
    assert complaints(kernels.source(family), "90a", options) == []
    ptx = nvrtc.to_ptx(kernels.source(family), "90a", options)
    turned = {"conv_forward": (0, 1), "conv_input_gradient": (0, 0), "conv_weight_gradient": (1, 1)}
    kind = "f16" if storage == "float16" else "bf16"
    shape = f"wgmma.mma_async.sync.aligned.m64n{tile}k16.f32.{kind}.{kind}"
    products = [line for line in ptx.splitlines() if shape in line]
    # per step, 2 slices of 2 halves
    assert len(products) == 4
    a, b = turned[family]
    assert all(line.replace(" ", "").endswith(f",add,1,1,{a},{b};}}") for line in products)
    loop = ptx[ptx.index("cp.async.wait_group") :]
    order = ["cp.async.wait_group", "fence.proxy.async", "bar.sync", "wgmma.fence", shape]
    order += ["wgmma.commit_group", "wgmma.wait_group.sync.aligned 1"]
    places = [loop.index(name) for name in order]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("input_gradient", "tile", "storage"),
    [
        pytest.param(*case, marks=() if case == (True, 48, "bfloat16") else pytest.mark.slow)
        for gradient, family in ((False, "conv_forward"), (True, "conv_input_gradient"))
        for tile in kernels.tiles(family)
        for storage in ("float16", "bfloat16")
        for case in [(gradient, tile, storage)]
    ],
)
def test_products_of_boxes_compile(input_gradient, tile, storage):
    """conv_tma.cu: barriers are shown before they are used, and no register is spilled."""
    if 90 not in nvrtc.architectures():
        pytest.skip("this NVRTC does not know 9.0")
    for slices in kernels.SLICES:
        more = kernels.tma_options(tile, slices, input_gradient)
        options = tuple(
            option for option in kernels.options(storage, False, more) if "-arch" not in option
        )
        source = kernels.source(kernels.TMA_FAMILY)
        assert complaints(source, "90a", options) == []
        ptx = nvrtc.to_ptx(source, "90a", options)
        assert ptx.count("wgmma.mma_async") == 2 * slices
        turned = ",add,1,1,0,0;}" if input_gradient else ",add,1,1,0,1;}"
        products = [line.replace(" ", "") for line in ptx.splitlines() if "mma_async" in line]
        assert all(line.endswith(turned) for line in products)
        order = ["mbarrier.init", "fence.proxy.async", "bar.sync", "cp.async.bulk.tensor.4d"]
        places = [ptx.index(name) for name in order]
        assert places == sorted(places)
        for parameter in (0, 1):  # tensor maps, passed by value
            assert f".param .align 64 .b8 conv_tma_param_{parameter}[128]" in ptx
        # a box's bytes are expected before it is copied
        copying = ptx[ptx.index("bar.sync") :]
        assert copying.index("arrive.expect_tx") < copying.index("cp.async.bulk.tensor")


def warpgroup_options(storage, tile):
    more = (*kernels.tile_options(tile, 8), *kernels.WARPGROUPS)
    found = kernels.options(storage, False, more)
    return tuple(option for option in found if not option.startswith("-arch="))


@pytest.mark.parametrize("family", kernels.TENSOR_FAMILIES)
@pytest.mark.parametrize(("storage", "shape"), [("bfloat16", "m16n8k16"), ("float32", "m16n8k8")])
def test_the_intended_instructions_are_generated(family, storage, shape):
    """A step of a warp: 2 slices of 4 x 8 products, and 16-byte copies for every chunk."""
    options = kernels.options(
        storage, False, kernels.tile_options(128, kernels.VECTORS.get(storage, (1,))[0])
    )
    ptx = nvrtc.to_ptx(kernels.source(family), 80, options)
    assert ptx.count(f"mma.sync.aligned.{shape}.row.col") == 2 * 4 * 8
    copies = 3 * 8  # four chunks of each tile per thread, in two stages before the loop and in it
    assert ptx.count("cp.async.cg.shared.global") in (copies, copies * 2 // 3)
    along = {"conv_forward": 8, "conv_input_gradient": 16, "conv_weight_gradient": 0}[family]
    turned = 16 - along if storage == "bfloat16" else 0
    assert ptx.count("ldmatrix.sync.aligned.m8n8.x4.shared") == along
    assert ptx.count("ldmatrix.sync.aligned.m8n8.x4.trans.shared") == turned


def test_compiler_warnings_and_errors_are_reported():
    unused = 'extern "C" __global__ void f(float* x) { int unused; x[0] = 1; }'
    assert "unused" in complaints(unused, 80, ("-std=c++17",))[0]
    with pytest.raises(RuntimeError, match="undefined"):
        nvrtc.compile_source("__global__ void f() { g(); }", 80, ())
