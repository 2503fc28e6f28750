"""Order and caching: nothing is computed twice, and a report needs only the disk."""

import json
import shlex
import signal
import subprocess
import time

import pytest
from helpers.cli_tools import COMMAND
from PIL import Image

from minialex.cli import main
from minialex.errors import InputError
from minialex.experiments import Options, registry, runner
from minialex.experiments.cache import CachedResult, copy_cells
from minialex.experiments.data import open_subset

QUIET = {"log": lambda text: None}


def test_each_result_is_computed_once_seed_by_seed(quick, computed, tmp_path):
    out = tmp_path / "out"
    for _ in range(2):
        runner.reproduce([], Options(scale="tiny", seeds=2), out, **QUIET)
        assert computed(out) == ["whole 0", "part 0", "whole 1", "part 1"]


def test_more_seeds_compute_only_the_new_ones(quick, computed, tmp_path):
    out = tmp_path / "out"
    runner.reproduce([], Options(scale="tiny"), out, **QUIET)
    runner.reproduce([], Options(scale="tiny", seeds=2), out, **QUIET)
    assert computed(out) == ["whole 0", "part 0", "whole 1", "part 1"]


def test_changed_settings_are_computed_and_old_results_kept(quick, computed, tmp_path):
    out = tmp_path / "out"
    runner.reproduce([], Options(scale="tiny"), out, **QUIET)
    runner.reproduce([], Options(scale="tiny", epochs=7), out, **QUIET)
    assert computed(out) == ["whole 0", "part 0"] * 2
    runner.reproduce([], Options(scale="tiny"), out, **QUIET)
    assert len(computed(out)) == 4


def test_the_device_changes_no_result(quick, computed, tmp_path):
    out = tmp_path / "out"
    runner.reproduce([], Options(scale="tiny"), out, **QUIET)
    runner.reproduce(
        [], Options(scale="tiny", device={"backend": "numpy", "threads": 1}), out, **QUIET
    )
    assert len(computed(out)) == 2


def test_a_damaged_result_is_computed_again(quick, computed, tmp_path):
    out = tmp_path / "out"
    runner.reproduce([], Options(scale="tiny"), out, **QUIET)
    next((out / "cells").glob("whole*/cell.json")).write_text('{"settings": ')
    runner.reproduce([], Options(scale="tiny"), out, **QUIET)
    assert computed(out) == ["whole 0", "part 0", "whole 0"]


def test_report_only_computes_nothing_and_gives_the_same_page(quick, computed, tmp_path):
    out = tmp_path / "out"
    path, _ = runner.reproduce([], Options(scale="tiny", seeds=3), out, **QUIET)
    before = path.read_bytes()
    path.unlink()
    assert runner.report(out, **QUIET).read_bytes() == before
    assert len(computed(out)) == 6


def test_a_report_of_half_the_work_says_what_is_missing(quick, computed, tmp_path):
    out = tmp_path / "out"
    runner.reproduce([], Options(scale="tiny", seeds=3), out, **QUIET)
    for folder in (out / "cells").glob("part-seed-*"):
        (folder / "cell.json").unlink()
    page = runner.report(out, **QUIET).read_text()
    assert "Incomplete: 3 results" in page
    assert "40.2&nbsp;±&nbsp;0.2" in page
    assert len(computed(out)) == 6


def test_the_same_settings_in_another_order_are_the_same_result(tmp_path):
    one = CachedResult(tmp_path, "A", {"x": 1, "y": [2, 3]})
    one.save(5, 1.0)
    assert CachedResult(tmp_path, "A", {"y": (2, 3), "x": 1}).load()["result"] == 5
    assert CachedResult(tmp_path, "A", {"x": 1, "y": [2, 4]}).load() is None


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda out: runner.reproduce(["quikc"], Options(), out), "did you mean 'quick'"),
        (lambda out: runner.report(out), "nothing to report"),
        (lambda out: Options(scale="smal"), "unknown scale 'smal'"),
        (lambda out: Options(seeds=0), "seeds is 0"),
    ],
)
def test_a_mistake_is_refused(quick, tmp_path, call, sentence):
    with pytest.raises(InputError, match=sentence):
        call(tmp_path / "out")


def test_damaged_stored_options_are_refused(quick, tmp_path):
    (tmp_path / "reproduce.json").write_text('{"quick": 3}')
    with pytest.raises(InputError, match="is damaged"):
        runner.report(tmp_path)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("reproduce ablation", "did you mean 'ablations'"),
        ("reproduce --scale huge", "unknown scale 'huge'"),
        ("reproduce --data none/at/all", "no data at"),
        ("reproduce --scale full", "give its images with --data"),
        ("reproduce --seeds 0", "0 is less than 1"),
        ("reproduce --report-only --out nothing", "nothing to report"),
        ("reproduce --out file", "is a file"),
    ],
)
def test_a_mistake_on_the_command_line(line, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert main.main(shlex.split(line)) == 2
    [sentence] = capsys.readouterr().err.splitlines()
    assert words in sentence


def test_a_former_name_still_works(tmp_path):
    [experiment] = registry.select(["rivals"])
    assert experiment.name == "baselines"
    (tmp_path / "reproduce.json").write_text(
        '{"rivals": {"data": ["a"], "scale": "tiny", "seeds": 2, "epochs": null, "pretrain": null,'
        ' "where": {"backend": "numpy", "devices": null, "precision": "fp32", "threads": 1}}}'
    )
    device = {"backend": "numpy", "devices": None, "precision": "fp32", "threads": 1}
    known = runner._load_options(tmp_path)
    assert known == {"baselines": Options(("a",), "tiny", seeds=2, device=device)}
    runner._save_options(tmp_path, known)
    assert runner._load_options(tmp_path) == known


def test_the_list_names_every_experiment(capsys):
    assert main.main(["reproduce", "--list"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names[:3] == ["relu-and-tanh", "ablations", "tables"]


LINE = "reproduce relu-and-tanh --scale tiny --epochs 300 --backend numpy --threads 1"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_the_state_and_the_same_command_continues(tmp_path, number, code):
    """Killed while training, the run resumes from its step and ends like one never stopped."""
    out = tmp_path / "out"
    with subprocess.Popen(
        [*COMMAND, *shlex.split(LINE), "--out", out], stdout=subprocess.PIPE
    ) as run:
        while not list(out.glob("cells/relu*/run/history.csv")):
            assert run.poll() is None
            time.sleep(0.02)
        run.send_signal(number)
        output = run.communicate(timeout=60)[0].decode()
    assert run.returncode == code
    assert (
        f"stopped by {signal.Signals(number).name}, state saved; continue with: minialex" in output
    )
    assert (out / "report.html").exists()
    assert list(out.glob("cells/*/cell.json")) == []
    words = shlex.split(output.rpartition("continue with: minialex ")[2])
    assert words[:2] == ["reproduce", "relu-and-tanh"]
    for name, value in (("--out", str(out)), ("--backend", "numpy")):
        assert words[words.index(name) + 1] == value


@pytest.mark.slow  # tests/training kills runs too
def test_a_killed_and_resumed_run_gives_the_same_result(tmp_path):
    line = LINE.replace("300", "3")
    broken = shlex.split(f"{line} --out {tmp_path}/broken")
    with subprocess.Popen([*COMMAND, *broken], stdout=subprocess.DEVNULL) as run:
        while not list(tmp_path.glob("broken/cells/relu*/run/history.csv")):
            assert run.poll() is None
            time.sleep(0.005)
        run.kill()
    assert main.main(broken) == 0
    assert main.main(shlex.split(f"{line} --out {tmp_path}/whole")) == 0

    def outcome(folder):
        cells = [json.loads(p.read_text()) for p in sorted(folder.glob("cells/*/cell.json"))]
        return [[(r["step"], r["train_loss"], r["val_top1_error"]) for r in cell["result"]]
                for cell in cells]  # fmt: skip

    assert outcome(tmp_path / "broken") == outcome(tmp_path / "whole") != []


def test_an_experiment_from_a_users_file(quick, computed, tmp_path, monkeypatch, capsys):
    """Run by its path; reported if named, else left out with a note."""
    monkeypatch.setattr(registry, "_registered", {})
    own = tmp_path / "my_own.py"
    own.write_text((quick / "quick.py").read_text().replace("Quick & <odd>", "My own"))
    line = f"reproduce {own} --scale tiny --out {tmp_path}/out"
    assert main.main(shlex.split(line)) == 0
    assert "my-own: My own" in capsys.readouterr().out
    assert computed(tmp_path / "out") == ["whole 0", "part 0"]
    assert main.main(shlex.split(f"{line} --report-only")) == 0
    assert "My own" in (tmp_path / "out" / "report.html").read_text()
    registry._registered.clear()
    assert main.main(shlex.split(f"reproduce --report-only --out {tmp_path}/out")) == 0
    assert "not in the report: my-own" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "words"), [("", "no TITLE and no run"), ("1 / 0", "ZeroDivisionError")]
)
def test_a_file_without_an_experiment_is_refused(quick, tmp_path, monkeypatch, text, words):
    monkeypatch.setattr(registry, "_registered", {})
    (tmp_path / "my.py").write_text(text)
    with pytest.raises(InputError, match=words):
        registry.select([str(tmp_path / "my.py")])
    (tmp_path / "quick.py").write_text((quick / "quick.py").read_text())
    with pytest.raises(InputError, match="'quick' is taken"):
        registry.select([str(tmp_path / "quick.py")])


def test_kept_results_are_not_computed_again_elsewhere(quick, computed, tmp_path):
    """Another machine computes what is new, and adds it."""
    kept = tmp_path / "kept"
    runner.reproduce([], Options(scale="tiny"), tmp_path / "one", keep=kept, **QUIET)
    more = Options(scale="tiny", seeds=2)
    two, _ = runner.reproduce([], more, tmp_path / "two", keep=kept, **QUIET)
    assert computed(tmp_path / "two") == ["whole 1", "part 1"]
    one, _ = runner.reproduce([], more, tmp_path / "one", keep=kept, **QUIET)
    assert computed(tmp_path / "one") == ["whole 0", "part 0"]
    assert one.read_text() == two.read_text()


def test_only_small_files_of_complete_results_are_kept(tmp_path):
    cells, kept = tmp_path / "cells", tmp_path / "kept"
    CachedResult(cells, "done", {}).save(1, 1.0)
    [done] = cells.iterdir()
    (done / "kernels.png").write_bytes(b"picture")
    (done / "predictions.npz").write_bytes(b"numbers")
    (done / "run").mkdir()
    (done / "run" / "last.safetensors").write_bytes(b"weights")
    (cells / "begun-0").mkdir()
    (cells / "begun-0" / "predictions.npz").write_bytes(b"half")
    copy_cells(cells, kept)
    found = sorted(str(path.relative_to(kept)) for path in kept.rglob("*") if path.is_file())
    files = ("cell.json", "kernels.png", "predictions.npz")
    assert found == [f"{done.name}/{name}" for name in files]
    (kept / done.name / "cell.json").write_text("its own")
    copy_cells(cells, kept)
    assert (kept / done.name / "cell.json").read_text() == "its own"


def test_results_depend_on_the_images_and_not_on_their_folder(tmp_path):
    for where in ("here", "there"):
        for name in ("a/1.png", "a/2.png", "b/3.png", "b/4.png"):
            path = tmp_path / where / "set" / "train" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 40), (int(path.stem) * 50, 0, 0)).save(path)
    first, second = (
        open_subset(str(tmp_path / where / "set"), None, None).key for where in ("here", "there")
    )
    assert first == second
    Image.new("RGB", (40, 40), (1, 2, 3)).save(tmp_path / "there/set/train/a/1.png")
    assert open_subset(str(tmp_path / "there" / "set"), None, None).key != first
