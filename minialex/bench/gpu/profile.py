"""NVIDIA's profiler on the convolutions and normalisations of a step."""

import shutil
import subprocess
import sys
from typing import Any

from minialex.bench.gpu.plan import Plan

_LONGEST = 6000  # characters of the profiler's table
_TAIL = 500  # characters of its output if it fails
# what tells why a kernel is slow: its time, occupancy, and how busy memory and tensor cores are
_METRICS = (
    "gpu__time_duration.sum",
    "sm__warps_active.avg.pct_of_peak_sustained_active",
    "dram__throughput.avg.pct_of_peak_sustained_elapsed",
    "lts__t_sector_hit_rate.pct",
    "sm__inst_executed_pipe_tensor.sum",
    "smsp__warp_issue_stalled_long_scoreboard_per_warp_active.pct",
    "l1tex__data_bank_conflicts_pipe_lsu.sum",
    "launch__registers_per_thread",
)


def convolutions(plan: Plan) -> dict[str, Any]:
    """The profiler's table of one step, op by op, in the first timed precision.

    RuntimeError if the profiler fails, for example without the permission to read the counters.
    """
    program = shutil.which("ncu")
    if program is None:
        return {"summary": "ncu is not installed"}
    names = "regex:conv_forward|conv_weight_gradient|conv_input_gradient|norm_pool"
    # at the clocks of all other parts: by default ncu changes the card's
    command = [program, "--csv", "--clock-control", "none"]
    command += ["--kernel-name", names, "--launch-count", "24"]
    command += ["--metrics", ",".join(_METRICS), sys.executable]
    command += ["-m", "minialex.bench.gpu.observed", "step", plan.precisions[0]]
    command += [plan.model, str(plan.kernel_batch)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError((done.stdout + done.stderr)[-_TAIL:])
    lines = [line for line in done.stdout.splitlines() if line.startswith('"')]
    return {"summary": f"{len(lines)} lines", "csv": "\n".join(lines)[:_LONGEST]}
