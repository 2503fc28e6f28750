"""python -m minialex.bench.gpu.sass: the inner loops of the convolutions in machine code, counted.

With the registers of each kernel, for compute capability 9.0 and bf16. Needs CuPy, no GPU, and
NVIDIA's disassembler: pip install nvidia-cuda-nvdisasm, or the CUDA toolkit.
"""

import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from importlib.util import find_spec
from pathlib import Path
from subprocess import PIPE

from minialex.backends.cuda import kernels, machine_code
from minialex.backends.cuda.device import library
from minialex.utils import table

_PRODUCTS = ("HMMA", "HGMMA")
_LABEL = re.compile(r"\s*(\.L_x_\d+):")
_INSTRUCTION = re.compile(r"\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9_.]+)(.*)")


def disassembler() -> str | None:
    """The program nvdisasm, or None."""
    found = find_spec("nvidia")
    for root in (found.submodule_search_locations or ()) if found else ():
        for path in Path(root).glob("**/bin/nvdisasm"):
            return str(path)
    return shutil.which("nvdisasm")


def inner_loop(text: str, kernel: str) -> list[str]:
    """The instructions of the smallest loop with matrix products, from nvdisasm's text."""
    text = text.rpartition(f".text.{kernel}:")[2]
    labels: dict[str, int] = {}
    instructions: list[tuple[str, str]] = []
    for line in text.splitlines():
        if line.startswith(".section"):
            break
        if label := _LABEL.match(line):
            labels[label[1]] = len(instructions)
        elif found := _INSTRUCTION.match(line):
            instructions.append((found[1], found[2]))
    loops = []
    for end, (name, rest) in enumerate(instructions):
        target = re.search(r"(\.L_x_\d+)", rest)
        start = labels.get(target[1], end + 1) if target else end + 1
        if name.startswith("BRA") and start <= end:
            names = [instruction for instruction, _ in instructions[start : end + 1]]
            if any(instruction.startswith(_PRODUCTS) for instruction in names):
                loops.append(names)
    return min(loops, key=len, default=[])


@dataclass(frozen=True)
class Loop:
    """A kernel's registers per thread, and its inner loop's instructions, in all and by kind."""

    registers: int
    instructions: int
    products: int
    copies: int
    loads: int
    divisions: int


def loop(family: str, tile: int, warpgroups: bool) -> Loop:
    """The inner loop of a convolution in bf16, with copies of 16 bytes as in AlexNet."""
    program = disassembler()
    assert program is not None, "nvdisasm is missing"
    more = (*kernels.tile_options(tile, 8), *(kernels.WARPGROUPS if warpgroups else ()))
    given = kernels.device_options(family, "bfloat16", False, more, (9, 0))
    binary, said = machine_code.compiled(kernels.source(family), (*given, "--ptxas-options=-v"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(binary)
        done = subprocess.run([program, "-c", str(path)], check=True, stdout=PIPE, text=True)
    found = Counter(name.split(".")[0] for name in inner_loop(done.stdout, family))
    products = sum(found[name] for name in _PRODUCTS)
    return Loop(
        registers(said, family),
        *(found.total(), products, found["LDGSTS"], found["LDSM"], found["MUFU"]),
    )


def registers(said: str, kernel: str) -> int:
    """Registers per thread of a kernel, from the assembler's report."""
    _, _, of_kernel = said.partition(f"Compiling entry function '{kernel}'")
    used = re.search(r"Used (\d+) registers", of_kernel)
    assert used is not None, said
    return int(used[1])


def every() -> Iterator[tuple[str, int, bool]]:
    """The arguments of `loop` for everything that the paper's network may use."""
    for family in kernels.TENSOR_FAMILIES:
        for warpgroups in (False, True):
            for tile in kernels.tiles(family):
                yield family, tile, warpgroups


def text() -> str:
    """A row for every kernel and width of tiles."""
    columns = ["kernel", "tile", "by", "registers"]
    columns += ["instructions", "products", "copies", "loads", "divisions"]
    rows = []
    for family, tile, warpgroups in every():
        found = loop(family, tile, warpgroups)
        row = [family, f"{tile}", "wgmma" if warpgroups else "mma"]
        rows.append([*row, *map(str, astuple(found))])
    return table.markdown(columns, rows)


if __name__ == "__main__":
    print("NVRTC {}.{}".format(*library().cuda.nvrtc.getVersion()))
    print(text())
