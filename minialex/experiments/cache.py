"""What has been computed, on disk: one folder a cell, found again by the settings it came from.

OUT/cells/NAME-HASH/cell.json   settings, result and seconds; there only when the cell is finished
OUT/cells/NAME-HASH/run/        the run folder of a cell that trains
"""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minialex.utils import checkpoint


class NotRun(Exception):
    """A cell is asked for that is not on disk, while only a report is to be made."""


@dataclass(frozen=True)
class Cell:
    """One piece of work: a name for people, and all the settings its result depends on."""

    root: Path
    name: str
    settings: dict[str, Any]

    @property
    def folder(self) -> Path:
        """Other settings, another folder."""
        digest = hashlib.sha256(canonical(self.settings).encode()).hexdigest()[:10]
        slug = re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")
        return self.root / f"{slug}-{digest}"

    def load(self) -> dict[str, Any] | None:
        """What cell.json holds, or None if the cell is not finished (or its file is damaged)."""
        try:
            found = json.loads((self.folder / "cell.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        same = isinstance(found, dict) and found.get("settings") == json.loads(
            canonical(self.settings)
        )
        return found if same and "result" in found else None

    def save(self, result: Any, seconds: float) -> dict[str, Any]:
        """Finish the cell."""
        self.folder.mkdir(parents=True, exist_ok=True)
        found = {
            "name": self.name,
            "settings": json.loads(canonical(self.settings)),
            "result": result,
            "seconds": round(seconds, 3),
        }
        checkpoint.write_json(self.folder / "cell.json", found)
        return found


def canonical(settings: dict[str, Any]) -> str:
    """The same text for the same settings, in whatever order they were given."""
    return json.dumps(settings, sort_keys=True)
