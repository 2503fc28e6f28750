"""Paths as users type them."""

import os
from pathlib import Path


def expanded(path: str | os.PathLike[str]) -> Path:
    """`path` with a first `~` or `~NAME` replaced by that user's home folder, if there is one.

    `Path.expanduser` raises a RuntimeError for a name that is no user's, such as that of `~$a.png`.
    """
    return Path(os.path.expanduser(path))
