"""python -m null_cuda: what the stand-in has and the real CuPy has not, one line each."""

import null_cuda

reason = null_cuda.why_not()
if reason is not None:
    raise SystemExit(f"cannot run: {reason}")
null_cuda.install()

import cupy  # noqa: E402, what install() prepares for
from cuda_on_cpu import fake_cupy, surface  # noqa: E402
from cuda_on_cpu.machine import Machine  # noqa: E402

for line in surface.differences(fake_cupy.build(Machine()), cupy):
    print(line)
