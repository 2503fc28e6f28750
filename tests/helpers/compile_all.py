"""python -m helpers.compile_all [CAPABILITY ...]: every kernel variant under every NVRTC.

What the slow tests of test_nvrtc.py assert, as a table with a row for each compiler and compute
capability as it is done. Needs NVRTC, no GPU: pip install nvidia-cuda-nvrtc nvidia-cuda-nvrtc-cu12.
"""

import argparse
import sys

from helpers import nvrtc
from minialex.backends.cuda import kernels

WANTED = ("9.0", "8.0", "10.0", "12.0", "8.9", "8.6", "7.5", "7.0")


def row(
    compiler: int | str, capability: str, wide: bool, families: list[str] | None
) -> tuple[int, list[str]]:
    """How many variants were compiled, by an NVRTC or the nvcc at a path, and what is wrong."""
    major, minor = map(int, capability.split("."))
    wrong, count = [], 0
    for family, storage, more in kernels.variants((major, minor)):
        if families and family not in families:
            continue
        options = kernels.options(storage, wide, more)
        own = "90a" if "-arch=sm_90a" in options else 10 * major + minor
        options = tuple(option for option in options if not option.startswith("-arch="))
        source = kernels.source(family)
        if isinstance(compiler, str):
            defined = tuple(option for option in options if option.startswith("-D"))
            found = nvrtc.complaints_of_nvcc(compiler, source, own, defined)
        else:
            found = nvrtc.complaints(source, own, options, compiler)
        for said in found:
            wrong.append(f"{family} {storage} {' '.join(more)}: {said}")
        count += 1
    return count, wrong


def main() -> None:
    """Compile; ends with 1 if the compiler complained."""
    parser = argparse.ArgumentParser(prog="python -m helpers.compile_all")
    parser.add_argument("capabilities", nargs="*", default=WANTED)
    parser.add_argument("--compiler", type=int, action="append")
    parser.add_argument("--nvcc", help="the path of nvcc, to compile with it instead of NVRTC")
    parser.add_argument("--family", action="append", help="only these .cu files")
    parser.add_argument("--index", choices=("32", "64"), default="32")
    given, failed = parser.parse_args(), False
    compilers = given.compiler or sorted(nvrtc.libraries(), reverse=True)
    compilers = [given.nvcc] if given.nvcc else compilers
    print("| NVRTC | capability | indices | variants | warnings or spills |")
    print("| --- | --- | --- | --- | --- |")
    for capability in given.capabilities:
        for compiler in compilers:
            number = int(capability.replace(".", ""))
            if compiler != given.nvcc and number not in nvrtc.architectures(compiler):
                continue
            count, wrong = row(compiler, capability, given.index == "64", given.family)
            name = "nvcc"
            if compiler != given.nvcc:
                name = "{}.{}".format(*nvrtc.version(compiler))
            print(
                f"| {name} | {capability} | {given.index}-bit | {count} | {len(wrong)} |",
                flush=True,
            )
            print("\n".join(wrong), end="\n" if wrong else "", file=sys.stderr)
            failed = failed or bool(wrong)
    raise SystemExit(int(failed))


if __name__ == "__main__":
    main()
