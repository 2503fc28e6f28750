"""NVIDIA's profiler on the convolutions and normalisations of a step."""

import shutil
import subprocess
import sys
from typing import Any

from minialex.bench.gpu.plan import Plan

_TAIL = 6000  # characters of the profiler's table
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
    """The profiler's table of one step, op by op, in the first timed precision."""
    program = shutil.which("ncu")
    if program is None:
        return {"summary": "ncu is not installed"}
    names = "regex:conv_forward|conv_weight_gradient|conv_input_gradient|norm_pool"
    code = (
        "from minialex.bench.gpu.steps import Resident, _on; from minialex import backends, models;"
        f"b = backends.get('cupy', 0, {plan.precisions[0]!r});"
        f"r = Resident({plan.model!r}, _on(models.get({plan.model!r}).network, b), "
        f"{plan.kernel_batch}); r.step(); b.synchronize()"
    )
    command = [program, "--csv", "--kernel-name", names, "--launch-count", "24"]
    command += ["--metrics", ",".join(_METRICS), sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return {"summary": (done.stdout + done.stderr)[-500:]}
    lines = [line for line in done.stdout.splitlines() if line.startswith('"')]
    return {"summary": f"{len(lines)} lines", "csv": "\n".join(lines)[:_TAIL]}
