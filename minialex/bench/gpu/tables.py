"""The suite's results as Markdown, for docs/performance-gpu.md."""

from typing import Any

from minialex.utils import table

_NO_PARTS = ("suite", "device", "seconds", "left out")


def markdown(found: dict[str, Any]) -> str:
    """A table for each part; what failed or was left out comes first."""
    device = found["device"]
    lines: list[str] = [
        f"{device['name']}, compute capability {device['capability']}, CuPy {device['cupy']}, "
        f"CUDA runtime {device['cuda_runtime']}, driver {device['cuda_driver']}",
        "",
    ]
    parts = {name: part for name, part in found.items() if name not in _NO_PARTS}
    for name, part in parts.items():
        if isinstance(part, dict) and "failed" in part:
            lines += [f"FAILED: {name}: {part['failed']}", ""]
    if found["left out"]:
        lines += ["Not run for lack of time: " + ", ".join(found["left out"]), ""]
    for name, part in parts.items():
        rows = part.get("rows", [part]) if isinstance(part, dict) else part
        if rows and "failed" not in rows[0]:
            lines += [f"## {name}", "", _table(rows), ""]
    lines += ["## seconds", "", _table([{"part": k, "s": v} for k, v in found["seconds"].items()])]
    return "\n".join(lines) + "\n"


def _table(rows: list[dict[str, Any]]) -> str:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_text(row.get(column)) for column in columns] for row in rows]
    return table.markdown([column.replace("_", " ") for column in columns], cells)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.3f}" if abs(value) < 10 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
