"""python -m minialex.backends.cuda.precompile CAPABILITY FOLDER: machine code of every kernel.

For a compute capability such as 9.0; see `machine_code`. Needs CuPy, but no GPU.
"""

import argparse
from pathlib import Path

from minialex.backends.cuda import kernels, machine_code
from minialex.errors import InputError


def precompile(capability: tuple[int, int], folder: Path) -> int:
    """Compile everything that the backend may ask for with 32-bit indices; -> how many files."""
    count = 0
    for family, storage, more in kernels.variants(capability):
        given = kernels.device_options(family, storage, False, more, capability)
        machine_code.store(kernels.source(family), given, folder)
        count += 1
    return count


def _capability(text: str) -> tuple[int, int]:
    major, point, minor = text.partition(".")
    if not (point and major.isdecimal() and minor.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is no compute capability, such as 9.0")
    return int(major), int(minor)


def main() -> None:
    """Parse the arguments and compile."""
    parser = argparse.ArgumentParser(prog="python -m minialex.backends.cuda.precompile")
    parser.add_argument(
        "capability", type=_capability, metavar="N.N", help="compute capability, such as 9.0"
    )
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    try:
        count = precompile(given.capability, given.folder)
    except InputError as error:
        parser.error(str(error))
    size = sum(path.stat().st_size for path in given.folder.glob("*.cubin"))
    name = "{}.{}".format(*given.capability)
    print(f"{count} variants for {name} in {given.folder}, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
