"""Shared by the command-line tests: a tiny run's arguments, and photographs."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

COMMAND = (sys.executable, "-m", "minialex")
TINY = "--data shapes:48 --model alexnet-64 --epochs 1"


def write_photo(path: Path, seed=0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (80, 100, 3), np.uint8)
    Image.fromarray(pixels).save(path, "JPEG")
    return path


def photos(folder: Path, count=6) -> Path:
    """Class folders cat/ and dog/ with `count` photographs each."""
    for number in range(count):
        for k, name in enumerate(("cat", "dog")):
            write_photo(folder / name / f"{number}.jpg", 2 * number + k)
    return folder
