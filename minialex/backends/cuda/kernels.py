"""The .cu files: compiled once for each device, storage type and index width, and launched.

Arguments are checked and converted according to a kernel's own parameter list, so that a wrong
width or dtype, an array that is not contiguous, or one of another device raises an error.

`machine_code` compiles them and keeps the results on disk.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from minialex.backends.cuda import machine_code
from minialex.backends.cuda.device import capability, library

# products on tensor cores, with further compile options: see `tile_options` and `tma_options`
TENSOR_FAMILIES = ("conv_forward", "conv_input_gradient", "conv_weight_gradient")
TMA_FAMILY = "conv_tma"
STORAGES = ("float32", "float64", "float16", "bfloat16")
BLOCK = 256  # threads per block unless a kernel says otherwise
_GRID = 1 << 16  # most blocks; the kernels' loops do not depend on it
_INDEX_LIMIT = 1 << 30  # arrays of this many numbers or more need 64-bit indices

_SCALARS = {
    "int": np.int32,
    "long long": np.int64,
    "unsigned": np.uint32,
    "unsigned long long": np.uint64,
    "float": np.float32,
    "double": np.float64,
    "bool": np.bool_,
    "unsigned char": np.uint8,
    "unsigned short": np.uint16,
}
_KERNEL = re.compile(
    r'extern "C" __global__ void\s+(?:__launch_bounds__\([\w, ]+\)\s+)?(\w+)\(([^)]*)\)'
)
# headers prepended to each family: number.cuh, and more for some
_HEADS = {name: ("tensor.cuh", "mma.cuh", "wgmma.cuh") for name in TENSOR_FAMILIES}
_HEADS[TMA_FAMILY] = ("tensor.cuh", "wgmma.cuh", "tma.cuh")

# separate kernels and fused ones give the same bits only if no product is fused with a sum
_AS_WRITTEN = ("response_norm", "norm_pool")

WARPGROUPS = ("-DWARPGROUPS", "-arch=sm_90a")  # compiled_for: products by wgmma.cuh
SHARED = 48 * 1024  # bytes of shared memory of a block on any device, without opting in to more


def files() -> tuple[str, ...]:
    """The kernel families, by file name without .cu."""
    return tuple(sorted(path.stem for path in Path(__file__).parent.glob("*.cu")))


@cache
def source(family: str) -> str:
    """The full source that is compiled for a family."""
    folder = Path(__file__).parent
    names = ("number.cuh", *_HEADS.get(family, ()), f"{family}.cu")
    texts = ((folder / name).read_text(encoding="utf-8") for name in names)
    return "\n".join(f'#line 1 "{name}"\n{text}' for name, text in zip(names, texts, strict=True))


def options(storage: str, wide_index: bool, more: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The compiler's flags for a storage type and an index width, and a family's `more` flags."""
    index = "long long" if wide_index else "int"
    return ("-std=c++17", f"-DSTORAGE_{storage}", f"-DINDEX={index}", *more)


def device_options(
    family: str,
    storage: str,
    wide_index: bool,
    more: tuple[str, ...],
    capability: tuple[int, int],
) -> tuple[str, ...]:
    """`options` for a family, with the architecture for a device, unless `more` names one."""
    exact = ("-fmad=false",) if family in _AS_WRITTEN else ()
    given = options(storage, wide_index, (*exact, *more))
    own = any(option.startswith("-arch=") for option in more)
    return given if own else (*given, f"-arch={machine_code.architecture(capability)}")


def tile_options(tile: int, vector: int, divides: bool = False) -> tuple[str, ...]:
    """For tensor.cuh: the columns of a block's tile, and the numbers per copy.

    `divides`: indices need integer division in the inner loop, which others do without.
    """
    return (f"-DTILE_N={tile}", f"-DVECTOR={vector}", *(["-DDIVIDES"] if divides else []))


def tma_options(tile: int, slices: int, input_gradient: bool) -> tuple[str, ...]:
    """For conv_tma.cu: the columns of a tile, and of how many times 16 channels a step consists."""
    gradient = ("-DINPUT_GRADIENT",) if input_gradient else ()
    return (*tile_options(tile, 8), f"-DSLICES={slices}", *gradient, *WARPGROUPS)


# numbers per copy of the kernels on tensor cores, by storage type; the first is the fastest
VECTORS = {"float32": (4, 1), "float16": (8, 4, 1), "bfloat16": (8, 4, 1)}
TILES = (128, 96, 64)  # the possible values of TILE_N
SLICES = (4, 3)  # of conv_tma.cu
NARROW = 48  # one more for input gradients, whose right tiles run along L
MAY_DIVIDE = ("conv_forward", "conv_input_gradient")  # with channels of zeros; with a stride


def tiles(family: str) -> tuple[int, ...]:
    """The possible values of TILE_N for a family."""
    return (*TILES, NARROW) if family == "conv_input_gradient" else TILES


Variant = tuple[str, str, tuple[str, ...]]  # family, storage, `more` options


def variants(capability: tuple[int, int]) -> Iterator[Variant]:
    """Everything that the backend may ask for on a device, with 32-bit and with 64-bit indices."""
    for family in files():
        for storage in STORAGES if family != TMA_FAMILY else ():
            yield family, storage, ()
    if capability < (8, 0):
        return
    for family in TENSOR_FAMILIES:
        for storage, vectors in VECTORS.items():
            for tile in tiles(family):
                for vector in vectors:
                    for divides in (False, True)[: 2 if family in MAY_DIVIDE else 1]:
                        more = tile_options(tile, vector, divides)
                        yield family, storage, more
                        if capability == (9, 0) and storage != "float32":
                            yield family, storage, (*more, *WARPGROUPS)
    if capability == (9, 0):
        yield from _by_tma()


def _by_tma() -> Iterator[Variant]:
    for storage in ("float16", "bfloat16"):
        for gradient in (False, True):
            for tile in tiles("conv_input_gradient" if gradient else "conv_forward"):
                for slices in SLICES:
                    yield TMA_FAMILY, storage, tma_options(tile, slices, gradient)


@dataclass(frozen=True)
class Parameter:
    """One parameter of a kernel; `kind` is a C type, T, A, index_t, or a structure."""

    name: str
    kind: str
    pointer: bool


@cache
def signatures(family: str) -> dict[str, tuple[Parameter, ...]]:
    """{kernel: parameters} of a family, read from its source."""
    found = {}
    for name, listed in _KERNEL.findall(source(family)):
        parameters = []
        for text in listed.split(","):
            words = text.replace("__restrict__", " ").replace("const", " ").replace("*", " * ")
            *kind, last = words.split()
            parameters.append(Parameter(last, " ".join(w for w in kind if w != "*"), "*" in kind))
        found[name] = tuple(parameters)
    return found


def accumulator(storage: str) -> str:
    """The arithmetic type A for arrays of type T."""
    return "float64" if storage == "float64" else "float32"


@cache
def _module(family: str, storage: str, wide_index: bool, device: int, more: tuple) -> Any:
    # a module belongs to the device it was loaded on
    given = device_options(family, storage, wide_index, more, capability(device))
    return library().RawModule(path=str(machine_code.of(source(family), given)))


@cache
def _function(
    family: str, kernel: str, storage: str, wide_index: bool, device: int, more: tuple
) -> Any:
    return _module(family, storage, wide_index, device, more).get_function(kernel)


def grid_for(threads: int) -> tuple[int]:
    """The number of blocks for this many threads; kernels loop over the rest."""
    return (max(1, min(-(-threads // BLOCK), _GRID)),)


def launch(
    device: int,
    family: str,
    kernel: str,
    storage: str,
    arguments: tuple,
    grid: tuple[int, ...],
    block: tuple[int, ...] = (BLOCK,),
    shared: int = 0,
    wide_index: bool = False,
    compiled_for: tuple[str, ...] = (),
) -> None:
    """Run a kernel on the current stream of `device`, which must be the current device."""
    parameters = signatures(family)[kernel]
    if len(parameters) != len(arguments):
        raise TypeError(f"{kernel} takes {len(parameters)} arguments, not {len(arguments)}")
    wide_index = wide_index or any(getattr(a, "size", 0) >= _INDEX_LIMIT for a in arguments)
    passed = tuple(
        _passed(kernel, parameter, argument, storage, wide_index, device)
        for parameter, argument in zip(parameters, arguments, strict=True)
    )
    function = _function(family, kernel, storage, wide_index, device, compiled_for)
    if shared > SHARED:
        function.max_dynamic_shared_size_bytes = shared
    function(grid, block, passed, shared_mem=shared)


def _passed(
    kernel: str, p: Parameter, value: Any, storage: str, wide_index: bool, device: int
) -> Any:
    kind = {"T": storage, "A": accumulator(storage)}.get(p.kind)
    if p.pointer:
        if value is None:
            return None
        wanted = kind or np.dtype(_SCALARS[p.kind]).name
        if value.dtype != wanted:
            raise TypeError(f"{kernel}: {p.name} is {value.dtype}, expected {wanted}")
        if not value.flags.c_contiguous:
            raise TypeError(f"{kernel}: {p.name} is not contiguous")
        if value.device.id != device:
            raise TypeError(f"{kernel}: {p.name} is on device {value.device.id}, not {device}")
        return value
    if p.kind == "index_t":
        return np.int64(value) if wide_index else np.int32(value)
    if kind is not None:
        return np.dtype(kind).type(value)
    if p.kind in _SCALARS:
        return _SCALARS[p.kind](value)
    return value  # a structure: a NumPy array of size one, passed by value
