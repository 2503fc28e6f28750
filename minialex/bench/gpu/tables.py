"""What the suite found, as Markdown for docs/performance-gpu.md."""

from typing import Any


def markdown(found: dict[str, Any]) -> str:
    """A table a part; what failed or was left out is named first."""
    device = found["device"]
    lines: list[str] = [
        f"{device['name']}, compute capability {device['capability']}, CuPy {device['cupy']}",
        "",
    ]
    for name, part in found.items():
        if isinstance(part, dict) and "failed" in part:
            lines += [f"FAILED: {name}: {part['failed']}", ""]
    if found["left out"]:
        lines += ["Left out for want of time: " + ", ".join(found["left out"]), ""]
    for name, part in found.items():
        if isinstance(part, list) and part and isinstance(part[0], dict):
            lines += [f"## {name}", "", *_table(part), ""]
        elif name.split()[0] in ("rates", "end") and "failed" not in part:
            lines += [f"## {name}", "", *_table([part]), ""]
    return "\n".join(lines)


def _table(rows: list[dict[str, Any]]) -> list[str]:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_text(row.get(column)) for column in columns] for row in rows]
    heads = [column.replace("_", " ") for column in columns]
    return [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(columns), *cells)]


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.3f}" if abs(value) < 10 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
