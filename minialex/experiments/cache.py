"""Results on disk, one folder for each, looked up by the settings that produced them.

OUT/cells/NAME-HASH/cell.json   settings, result and seconds; written once the result is complete
OUT/cells/NAME-HASH/*.npz       arrays that belong to the result, and *.png, pictures
OUT/cells/NAME-HASH/run/        the run folder, if the result is a training run

The small files, all but `run/`, can be kept elsewhere: another machine then computes only the rest.
"""

import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minialex.utils import atomic


class NotCached(Exception):
    """A report needs a result that has not been computed yet."""


@dataclass(frozen=True)
class CachedResult:
    """The folder of one result: a readable name, and every setting the result depends on."""

    root: Path
    name: str
    settings: dict[str, Any]

    @property
    def folder(self) -> Path:
        """OUT/cells/NAME-HASH; different settings give a different folder."""
        digest = hashlib.sha256(canonical(self.settings).encode()).hexdigest()[:10]
        slug = re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")
        return self.root / f"{slug}-{digest}"

    def load(self) -> dict[str, Any] | None:
        """The contents of cell.json; None if there is no complete, undamaged result."""
        try:
            stored = json.loads((self.folder / "cell.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        same = isinstance(stored, dict) and stored.get("settings") == json.loads(
            canonical(self.settings)
        )
        return stored if same and "result" in stored else None

    def save(self, result: Any, seconds: float) -> dict[str, Any]:
        """Write cell.json; -> its contents."""
        self.folder.mkdir(parents=True, exist_ok=True)
        stored = {
            "name": self.name,
            "settings": json.loads(canonical(self.settings)),
            "result": result,
            "seconds": round(seconds, 3),
        }
        atomic.write_json(self.folder / "cell.json", stored)
        return stored


def copy_cells(source: Path, to: Path) -> None:
    """Copy the complete results in `source` that `to` does not have, without run folders."""
    for cell in sorted(source.glob("*/cell.json")):
        folder = to / cell.parent.name
        if (folder / cell.name).exists():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        small = sorted(path for path in cell.parent.iterdir() if path.suffix in (".npz", ".png"))
        for path in (*small, cell):  # the cell, complete, comes last
            temporary = folder / f"{path.name}.{os.getpid()}"
            shutil.copyfile(path, temporary)
            os.replace(temporary, folder / path.name)


def canonical(settings: dict[str, Any]) -> str:
    """JSON with sorted keys: equal settings give equal text."""
    return json.dumps(settings, sort_keys=True)
