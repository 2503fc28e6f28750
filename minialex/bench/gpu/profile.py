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
    "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_elapsed",
    "smsp__warp_issue_stalled_long_scoreboard_per_warp_active.pct",
    "l1tex__data_bank_conflicts_pipe_lsu_mem_shared.sum",
    "launch__registers_per_thread",
)


def convolutions(plan: Plan) -> dict[str, Any]:
    """The profiler's table of one step, op by op, in the first timed precision.

    RuntimeError if the profiler fails, for example without the permission to read the counters. A
    metric that it does not know for this device is left out.
    """
    program = shutil.which("ncu")
    if program is None:
        return {"summary": "ncu is not installed"}
    names = "regex:conv_forward|conv_weight_gradient|conv_input_gradient|norm_pool"
    # at the clocks of all other parts: by default ncu changes the card's
    command = [program, "--csv", "--clock-control", "none"]
    command += ["--kernel-name", names, "--launch-count", "24"]
    wanted = list(_METRICS)
    while True:
        observed = [sys.executable, "-m", "minialex.bench.gpu.observed", "step"]
        observed += [plan.precisions[0], plan.model, str(plan.kernel_batch)]
        options = ["--metrics", ",".join(wanted)]
        done = subprocess.run([*command, *options, *observed], capture_output=True, text=True)
        if not done.returncode:
            break
        said = done.stdout + done.stderr
        unknown = _unknown(said, wanted)
        if not unknown:
            raise RuntimeError(said[-_TAIL:])
        wanted = [metric for metric in wanted if metric not in unknown]
    lines = [line for line in done.stdout.splitlines() if line.startswith('"')]
    unknown = [metric for metric in _METRICS if metric not in wanted]
    summary = f"{len(lines)} lines" + (f", without {', '.join(unknown)}" if unknown else "")
    return {"summary": summary, "csv": "\n".join(lines)[:_LONGEST]}


def _unknown(said: str, wanted: list[str]) -> list[str]:
    """The metrics that ncu's errors name; it ends at the first one, before any kernel."""
    errors = [line for line in said.splitlines() if "Failed to find metric" in line]
    return [name for name in wanted if any(name.partition(".")[0] in line for line in errors)]
