"""A Ctrl-C in a destructor still ends the work, and prints nothing."""

import time

import pytest

from minialex.utils.ctrl_c import never_ignored


class Interrupted:
    def __del__(self):
        raise KeyboardInterrupt


class Defect:
    def __del__(self):
        raise ValueError("a defect")


@pytest.mark.usefixtures("plain_signals")
def test_ctrl_c_is_raised_after_the_destructor(capfd, monkeypatch):
    seen = []
    monkeypatch.setattr("sys.unraisablehook", lambda one: seen.append(one.exc_type))

    def work():
        with never_ignored():
            one = Interrupted()
            del one
            for _ in range(500):  # one long sleep would not be interrupted
                time.sleep(0.01)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert seen == []
    assert capfd.readouterr().err == ""


def test_other_exceptions_are_left_to_python(monkeypatch):
    seen = []
    monkeypatch.setattr("sys.unraisablehook", lambda one: seen.append(one.exc_type))
    with never_ignored():
        one = Defect()
        del one
    assert seen == [ValueError]
