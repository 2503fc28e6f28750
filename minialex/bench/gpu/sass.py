"""python -m minialex.bench.gpu.sass: the inner loops of the convolutions in machine code, counted.

For compute capability 9.0, bf16, 16-byte copies. Needs CuPy, no GPU, and NVIDIA's disassembler:
pip install nvidia-cuda-nvdisasm, or the CUDA toolkit.
"""

import re
import shutil
import subprocess
import tempfile
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from subprocess import PIPE

from minialex.backends.cuda import kernels, machine_code
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


def counts(family: str, more: tuple[str, ...]) -> Counter[str]:
    """{instruction: how often} of a convolution's inner loop."""
    program = disassembler()
    assert program is not None, "nvdisasm is missing"
    given = kernels.device_options("bfloat16", False, more, (9, 0))
    with tempfile.TemporaryDirectory() as folder:
        path = machine_code.store(kernels.source(family), given, Path(folder))
        done = subprocess.run([program, "-c", str(path)], check=True, stdout=PIPE, text=True)
    return Counter(name.split(".")[0] for name in inner_loop(done.stdout, family))


def text() -> str:
    """A row for every kernel and width of tiles."""
    columns = ["kernel", "tile", "by", "instructions", "products", "copies", "loads", "divisions"]
    rows = []
    for family in kernels.TENSOR_FAMILIES:
        for way in ((), kernels.WARPGROUPS):
            for tile in kernels.TILES:
                found = counts(family, (*kernels.tile_options(tile, 8), *way))
                products = sum(found[name] for name in _PRODUCTS)
                numbers = (found.total(), products, found["LDGSTS"], found["LDSM"], found["MUFU"])
                rows.append([family, f"{tile}", "wgmma" if way else "mma", *map(str, numbers)])
    return table.markdown(columns, rows)


if __name__ == "__main__":
    print(text())
