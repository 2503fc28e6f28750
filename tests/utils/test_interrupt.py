"""Signals as requests: the first sets a flag, the second raises; old handlers are restored."""

import io
import os
import signal
import sys
import threading

import pytest

from minialex.utils.interrupt import Interrupt, Interrupted


@pytest.mark.usefixtures("plain_signals")
@pytest.mark.parametrize("number", Interrupt.SIGNALS)
def test_the_first_signal_sets_a_flag_and_the_second_raises(number):
    before = [signal.getsignal(each) for each in Interrupt.SIGNALS]
    with Interrupt() as interrupt:
        assert interrupt.requested is None
        os.kill(os.getpid(), number)
        assert interrupt.requested == number.name
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert [signal.getsignal(each) for each in Interrupt.SIGNALS] == before


def test_the_first_of_two_different_signals_gives_the_name():
    with Interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.requested == "SIGTERM"


def test_a_stop_by_another_process_is_no_first_signal():
    """A scheduler signals all ranks; one may hear of another's signal before its own comes."""
    with Interrupt() as interrupt:
        interrupt.requested = "SIGTERM"
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)


def test_handlers_are_restored_after_an_exception():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ZeroDivisionError), Interrupt():
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_notebook_shows_the_message(monkeypatch):
    class Notebook(io.StringIO):
        def fileno(self):
            return 2

    monkeypatch.setattr(sys, "stderr", Notebook())
    with Interrupt():
        os.kill(os.getpid(), signal.SIGTERM)
        assert "SIGTERM: saving, then stopping" in sys.stderr.getvalue()


def test_contexts_nest():
    with Interrupt() as outer:
        with Interrupt() as inner:
            os.kill(os.getpid(), signal.SIGINT)
            assert inner.requested == "SIGINT"
        assert outer.requested is None
        os.kill(os.getpid(), signal.SIGINT)
        assert outer.requested == "SIGINT"


def test_outside_the_main_thread_it_does_nothing():
    seen = []

    def work():
        with Interrupt() as interrupt:
            seen.append(interrupt.requested)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [None]


def test_the_first_signal_is_acknowledged_at_once(capfd):
    with Interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGTERM)
        assert "SIGTERM: saving, then stopping" in capfd.readouterr().err
        with pytest.raises(Interrupted, match="SIGTERM"):
            interrupt.check()


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP")
def test_nohup_is_respected():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGHUP)
            assert interrupt.requested is None
    finally:
        signal.signal(signal.SIGHUP, before)
