"""Faults of ranks under mpirun, at a step or at a random moment of a run."""

import os
import resource
import signal
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import minialex
from minialex.training.step import TrainStep

PACKAGE = str(Path(minialex.__file__).parent)
CALLS = 20_000  # of functions of minialex on a rank; one process alone makes some 34,000


class Planted(Exception):
    """An error in Python."""


def _raise():
    raise Planted("planted")


FAULTS = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "term": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "raise": _raise,
    # files cannot grow any more; Python ignores SIGXFSZ
    "full": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
}


@contextmanager
def at_step(fault, step):
    """The fault happens before update `step`."""
    start = TrainStep.start

    def start_or_not(self, state, batch, rates):
        if state.step == step - 1:
            FAULTS[fault]()
        start(self, state, batch, rates)

    TrainStep.start = start_or_not
    yield
    TrainStep.start = start


@contextmanager
def at_random(fault, rng):
    """The fault happens at one of the first CALLS calls, or up to 20 ms later.

    Calls while waiting are not counted: they are many on a busy machine.
    """
    left, later = int(rng.integers(CALLS)), float(rng.choice([0, rng.random() * 0.02]))

    def count(frame, event, argument):
        nonlocal left
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(PACKAGE):
            return
        if code.co_name in ("look", "poll", "received", "done"):
            return
        left -= 1
        if left == 0:
            sys.setprofile(None)
            if fault != "raise" and later:
                threading.Timer(later, FAULTS[fault]).start()
            else:
                FAULTS[fault]()

    sys.setprofile(count)
    yield
    sys.setprofile(None)
    at_random.left = left
