"""How long `minialex predict` takes, from its start on, and how long the page of `minialex show`.

    python -m minialex.bench.first_answer PHOTO [RUN]

Without RUN, it is the paper's network with random weights for 1,000 classes. `predict` starts five
times; its time is that of its first line, once everything is compiled. The page's first answer is
the first one after it has started; more follow. The photograph is sent, decoded and resized
each time, and every answer is computed: nothing is kept from one to the next.
"""

import argparse
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

from minialex import backends, models
from minialex.data.preprocessing import Preprocessing
from minialex.exchange.portable import colour_statistics
from minialex.inference.classifier import Classifier
from minialex.parallel import SingleDevice

MORE = 20  # answers after the first
STARTS = 5  # of `predict`, after one that may compile
_UNBUFFERED = {**os.environ, "PYTHONUNBUFFERED": "1"}


def write_untrained(path: Path, name: str = "alexnet", classes: int = 1000) -> None:
    """A weight file with the network's initial weights; nothing is subtracted from images."""
    model, b = models.get(name, classes), backends.get("numpy")
    params = model.network.init(b)
    statistics = colour_statistics(model.recipe.resize, (0.0, 0.0, 0.0))
    names = tuple(f"class {k}" for k in range(classes))
    devices = SingleDevice(model.network, b)
    preprocessing = Preprocessing(model.recipe, statistics)
    Classifier(model, params, preprocessing, names, names, devices, {}).save(path)


def predict(path: Path, photo: Path, *options: str) -> float:
    """Seconds from the start of `minialex predict`, in a process of its own, to its first line."""
    command = [sys.executable, "-m", "minialex", "predict", str(photo), *options]
    command += ["--model-file", str(path)]
    begun = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=_UNBUFFERED) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        taken = time.perf_counter() - begun
        process.communicate()
    if not line:
        raise SystemExit("minialex predict has failed")
    return taken


@contextmanager
def served(path: Path, *options: str) -> Iterator[http.client.HTTPConnection]:
    """A connection to the page of a run or weight file, in a process of its own."""
    command = [sys.executable, "-m", "minialex", "show", str(path), "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=_UNBUFFERED) as process:
        try:
            assert process.stdout is not None
            address = next((line.split()[0] for line in process.stdout if "http://" in line), None)
            if address is None:
                raise SystemExit("the page has not started")
            yield http.client.HTTPConnection(urlsplit(address).netloc)
        finally:
            process.terminate()


def answer(connection: http.client.HTTPConnection, photograph: bytes) -> float:
    """Seconds from sending a photograph to the whole answer, as the page asks for it."""

    def body(method: str, target: str, content: bytes | None = None) -> bytes:
        connection.request(method, target, content, {"X-Minialex": "1"})
        response = connection.getresponse()
        found = response.read()
        if response.status != 200:
            raise SystemExit(found.decode())
        return found

    begun = time.perf_counter()
    key = json.loads(body("POST", "/photo?name=photo", photograph))["photo"]
    body("GET", f"/part/answers?run=0&epoch=best&photo={key}")
    return time.perf_counter() - begun


def times(path: Path, photograph: bytes, more: int = MORE, *options: str) -> list[float]:
    """Seconds of the first answer and of `more`.

    Zeros after the photograph make each upload a new one.
    """
    with served(path, *options) as connection:
        return [answer(connection, photograph + bytes(k)) for k in range(1 + more)]


def text(found: list[float]) -> str:
    """The times in a line."""
    first, *more = found
    return (
        f"first answer after {first:.2f} s; {len(more)} more: median {median(more):.2f} s, "
        f"slowest {max(more):.2f} s"
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("photo", type=Path)
    parser.add_argument("run", type=Path, nargs="?", help="default: alexnet with random weights")
    given = parser.parse_args(arguments)
    photograph = given.photo.read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        path = given.run
        if path is None:
            path = Path(folder) / "alexnet.safetensors"
            write_untrained(path)
        starts = [predict(path, given.photo) for _ in range(1 + STARTS)]
        print(f"predict: median {median(starts[1:]):.2f} s, the first {starts[0]:.2f} s")
        print("page: " + text(times(path, photograph)))


if __name__ == "__main__":
    main()
