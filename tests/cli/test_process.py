"""Signals, pipes and limited terminals, in separate processes."""

import os
import shlex
import signal
import subprocess
import sys
import time

import pytest
from helpers.cli_tools import COMMAND

from minialex.cli import main
from minialex.utils import checkpoint


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_says_how_to_continue(tmp_path, number, code):
    folder = tmp_path / "run"
    arguments = shlex.split("train --data shapes:48 --model cifar10 --batch-size 8 --epochs 300")
    with subprocess.Popen([*COMMAND, *arguments, "--out", folder], stdout=subprocess.PIPE) as run:
        while not (folder / "last.safetensors").exists():
            assert run.poll() is None
            time.sleep(0.02)
        time.sleep(0.5)
        run.send_signal(number)
        output = run.communicate(timeout=60)[0].decode()
    assert run.returncode == code
    [line] = [line for line in output.splitlines() if line.startswith("stopped by")]
    resume = shlex.split(line.partition(": minialex ")[2])
    steps = checkpoint.load(folder / "last.safetensors")[1]["state"]["step"]
    assert main.main([*resume, "--max-steps", str(steps + 2), "--quiet"]) == 0
    assert checkpoint.load(folder / "last.safetensors")[1]["state"]["step"] == steps + 2


def test_a_closed_pipe_is_not_an_error():
    with subprocess.Popen(
        [*COMMAND, "summary"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as run:
        run.stdout.close()
        assert run.stderr.read() == b""
    assert run.returncode == 141


def test_an_encoding_without_block_characters_gets_plain_bars(trained):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    line = [*COMMAND, "predict", "shapes:1", "--model-file", trained / "runs" / "tiny"]
    ended = subprocess.run(line, capture_output=True, env=environment, check=True)
    assert b"#" in ended.stdout
    assert ended.stdout.isascii()


def test_the_installed_command_runs_this_package():
    from importlib.metadata import entry_points

    [point] = entry_points(group="console_scripts", name="minialex")
    assert point.load() is main.main


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_prepare_stops_on_a_signal_and_continues(tmp_path, number, code):
    line = [*COMMAND, "prepare", "shapes:4000", str(tmp_path / "packed"), "--size", "64"]
    with subprocess.Popen(line, stdout=subprocess.PIPE) as run:
        assert b"shapes" in run.stdout.readline()
        assert b"needs" in run.stdout.readline()
        while not list((tmp_path / "packed").glob("train-*")):
            assert run.poll() is None
            time.sleep(0.02)
        run.send_signal(number)
        output = run.communicate(timeout=60)[0].decode()
    assert not (tmp_path / "packed" / "manifest.json").exists()  # it did not pack the rest first
    assert run.returncode == code
    assert f"stopped by {signal.Signals(number).name}; run the same command again" in output


def test_ctrl_c_during_import_gives_one_sentence(monkeypatch, capsys):
    class Finder:
        @staticmethod
        def find_spec(name, path, target=None):
            if name == "minialex.cli.parser":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "minialex.cli.parser", raising=False)
    monkeypatch.setattr("sys.meta_path", [Finder, *sys.meta_path])
    assert main.main(["--help"]) == 130
    assert capsys.readouterr().err == "minialex: error: interrupted\n"


@pytest.mark.parametrize("line", ["predict photo.jpg --model-file runs/tiny", "predict none.jpg"])
def test_without_output_streams_exit_codes_still_work(here, monkeypatch, line):
    """pythonw and some services start programs with neither standard output nor error."""
    monkeypatch.setattr("sys.stdout", None)
    monkeypatch.setattr("sys.stderr", None)
    assert main.main(shlex.split(line)) == (0 if "photo" in line else 2)
    assert sys.stdout is None
