"""python -m minialex.backends.cuda.precompile CAPABILITY FOLDER: machine code of every kernel.

For a compute capability such as 9.0; see `machine_code`. Needs CuPy, but no GPU.
"""

import argparse
from pathlib import Path

from minialex.backends.cuda import kernels, machine_code


def precompile(capability: tuple[int, int], folder: Path) -> int:
    """Compile everything that the backend may ask for with 32-bit indices; -> how many files."""
    arch, count = "-arch=sm_{}{}".format(*capability), 0
    for family, storage, more in kernels.variants(capability):
        own = () if any(option.startswith("-arch=") for option in more) else (arch,)
        given = (*kernels.options(storage, False, more), *own)
        machine_code.store(kernels.source(family), given, folder)
        count += 1
    return count


def main() -> None:
    """Parse the arguments and compile."""
    parser = argparse.ArgumentParser(prog="python -m minialex.backends.cuda.precompile")
    parser.add_argument("capability", help="compute capability, such as 9.0")
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    major, minor = map(int, given.capability.split("."))
    count = precompile((major, minor), given.folder)
    size = sum(path.stat().st_size for path in given.folder.glob("*.cubin"))
    print(f"{count} variants for {given.capability} in {given.folder}, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
