"""What the commands print and write."""

import csv
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from helpers.cli_tools import TINY, photos

import minialex
from minialex.cli.common import print_json
from minialex.testing import gradients
from minialex.utils import checkpoint


def test_evaluate_shows_both_crops_with_the_recipe(here, command):
    code, output, _ = command("evaluate --crops both --model-file runs/tiny")
    assert code == 0
    recipe, header, one, ten = output.splitlines()
    assert header.split()[:3] == ["crops", "images", "accuracy"]
    assert one.split()[0] == "1"
    assert ten.split()[0] == "10"
    assert recipe.startswith("alexnet-64, resize 72")
    assert all(len(line) <= 80 for line in (header, one, ten))
    code, output, _ = command("evaluate --json --model-file runs/tiny")
    [result] = json.loads(output)
    assert result["images"] == 12
    assert 0 <= result["top5_error"] <= result["top1_error"] <= 1
    low, high = result["interval"]
    assert low <= result["accuracy"] == 1 - result["top1_error"] <= high


def test_evaluate_says_that_crops_are_not_mirrored(here, command, tmp_path):
    tensors, metadata = checkpoint.load(here / "runs" / "tiny" / "last.safetensors")
    metadata["recipe"]["mirror"] = False
    checkpoint.save(tmp_path / "net.safetensors", tensors, metadata)
    code, output, _ = command(f"evaluate --crops both --model-file {tmp_path}/net.safetensors")
    assert code == 0
    *_, one, five, note = output.splitlines()
    assert (one.split()[0], five.split()[0]) == ("1", "5")
    assert note == "5 crops, not mirrored: the network was trained without mirroring"


def test_predict_shows_probabilities_and_bars(here, command):
    code, output, err = command("predict photo.jpg shapes:2 --top 3")
    assert code == 0
    assert err == f"using the newest run, {Path('runs/tiny')}\n"
    lines = output.splitlines()
    assert len(lines) == 3 * (1 + 3)
    assert lines[0] == "photo.jpg"
    assert re.fullmatch(r" +\d+\.\d% +[█#]* +\w+ \w+ \w+", lines[1])
    assert lines[4].startswith("drawing 0: blue dotted cross")
    code, output, _ = command("predict photo.jpg --json --top 12 --crops 10")
    [document] = json.loads(output)
    assert document["image"] == "photo.jpg"
    assert sum(p["probability"] for p in document["predictions"]) == pytest.approx(1)


def test_the_newest_run_is_used(here, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tensors, metadata = checkpoint.load(here / "runs" / "tiny" / "last.safetensors")
    for number, name in enumerate(("older", "newer")):
        path = Path("runs") / name / "last.safetensors"
        path.parent.mkdir(parents=True)
        checkpoint.save(path, tensors, metadata)
        os.utime(path, (1000 + number, 1000 + number))
    assert "newer" in command("predict shapes:1")[2]


def test_features_in_each_format(here, command, tmp_path):
    photos(tmp_path / "many", 2)
    (tmp_path / "many" / "cat" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    line = f"features photo.jpg {tmp_path / 'many'} --out "
    code, output, err = command(line + f"{tmp_path}/f.npz")
    assert code == 1  # one image was skipped
    assert "5 images, 1,024 features each" in output
    assert re.search(r"^skipped: .*broken\.jpg", err, re.MULTILINE)
    archive = np.load(tmp_path / "f.npz")
    assert archive["features"].shape == (5, 1024)
    assert archive["names"][0] == "photo.jpg"
    command(line + f"{tmp_path}/f.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "f.npy"), archive["features"])
    command(line + f"{tmp_path}/f.csv")
    header, *rows = (tmp_path / "f.csv").read_text().splitlines()
    assert len(header.split(",")) == 1025
    found = np.array([row.split(",")[1:] for row in rows], np.float32)
    np.testing.assert_array_equal(found, archive["features"])


def test_summary_has_the_papers_totals(command):
    code, output, _ = command("summary")
    assert code == 0
    assert all(n in output for n in ("60,965,224", "659,272", "724,406,816", "105,705,600"))
    table = json.loads(command("summary --json")[1])
    assert (table["parameters"], table["neurons"]) == (60_965_224, 659_272)
    assert len(table["layers"]) == len(minialex.AlexNet().layers)
    single = json.loads(command("summary --option towers=1 --json --classes 10")[1])
    assert single["layers"][-1]["output"] == [10]
    assert "alexnet-torchvision" in command("summary --variants")[1]


def test_check_prints_a_line_per_check_and_fails_by_exit_code(command, monkeypatch):

    code, output, _ = command("check --backend numpy")
    assert code == 0
    *results, last = output.splitlines()
    assert all(line.startswith("ok ") for line in results)
    assert last == f"{len(results)} checks, 0 failed"
    rows = json.loads(command("check --backend numpy --json")[1])
    assert all(set(row) == {"name", "passed", "detail"} for row in rows)
    monkeypatch.setattr(gradients, "TOLERANCE", -1.0)
    code, output, _ = command("check --backend numpy")
    assert code == 1
    assert "FAILED  numpy: gradient of Dense" in output
    assert "backward gives" in output


def test_check_explains_a_folder(command, tmp_path):
    photos(tmp_path / "pets")
    (tmp_path / "pets" / "cat" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    code, output, _ = command(f"check --data {tmp_path / 'pets'}")
    assert code == 1
    assert "broken.jpg" in output
    code, output, _ = command(f"check --data {tmp_path / 'pets'} --json")
    assert code == 1
    assert any("broken.jpg" in problem for problem in json.loads(output)["problems"])
    (tmp_path / "pets" / "cat" / "broken.jpg").unlink()
    assert command(f"check --data {tmp_path / 'pets'}")[0] == 0


def test_json_and_quiet_runs(command, tmp_path):
    code, output, _ = command(f"train {TINY} --out {tmp_path}/run --max-steps 1 --json")
    assert code == 0
    assert json.loads(output)["run_dir"] == f"{tmp_path}/run"
    code, output, err = command(f"train --resume {tmp_path}/run --max-steps 100 --quiet")
    assert (code, output, err) == (0, "", "")
    assert (tmp_path / "run" / "best.safetensors").exists()


def test_training_on_photographs_reports_a_truncated_one(command, tmp_path):
    folder = photos(tmp_path / "pets")
    broken = folder / "cat" / "2.jpg"
    broken.write_bytes(broken.read_bytes()[:1500])
    line = f"train --data {folder} --model alexnet-64 --epochs 1 --val-fraction 0.2"
    code, output, _ = command(f"{line} --out {tmp_path}/run")
    assert code == 0
    assert "skipped 1 unreadable image" in output
    assert str(broken) in output
    code, output, _ = command(f"predict {folder}/dog --model-file {tmp_path}/run")
    assert code == 0
    assert output.count("dog/") == 6
    _, _, held_out = (tmp_path / "run/held_out.txt").read_text().splitlines()[0].split(" ", 2)
    (folder / held_out).write_bytes(b"")
    (folder / "cat" / "below").mkdir()
    (folder / "cat" / "below" / "7.jpg").write_bytes(b"\xff\xd8\xff")
    code, output, _ = command(f"evaluate --model-file {tmp_path}/run")
    assert code == 0
    below, skipped, reason = output.splitlines()[3:]
    assert below.startswith("left out: images in folders below a class")
    assert skipped == "skipped 1 unreadable image:"
    assert reason == f"  {folder / held_out} is not an image that Pillow can read: it is empty"
    [found] = json.loads(command(f"evaluate --model-file {tmp_path}/run --json")[1])
    assert (list(found["skipped"]), found["remarks"]) == ([str(folder / held_out)], [below])


def test_evaluate_writes_accuracy_by_class_and_predictions(here, command):
    line = "evaluate --model-file runs/tiny --by-class --predictions seen"
    code, output, err = command(f"{line}.csv")
    assert code == 0, err
    table = output[output.index("\nclass") + 1 :].splitlines()
    assert table[0].split() == ["class", "images", "accuracy", "95%", "interval"]
    shares = [float(row.split("%")[0].split()[-1]) for row in table[1:13]]
    assert shares == sorted(shares)
    assert table[13:] == ["seen.csv: 12 images"]
    code, output, err = command(f"{line}.jsonl --json")
    assert code == 0, err
    [document] = json.loads(output)
    rows = [json.loads(row) for row in (here / "seen.jsonl").read_text().splitlines()]
    assert sum(row["right"] for row in rows) == sum(c["right"] for c in document["by_class"])
    assert np.mean([row["right"] for row in rows]) == pytest.approx(document["accuracy"])
    assert {row["label"] for row in rows} == {c["class"] for c in document["by_class"]}


def test_predict_writes_one_row_per_photograph(here, command, monkeypatch):
    monkeypatch.setattr("minialex.cli.images._BATCH", 2)
    names = "photo.jpg shapes:3 --model-file runs/tiny --top 2"
    documents = json.loads(command(f"predict {names} --json")[1])
    for kind, rows_of in (("csv", csv.DictReader), ("jsonl", lambda f: map(json.loads, f))):
        code, output, err = command(f"predict {names} --out rows.{kind}")
        assert (code, output) == (0, f"rows.{kind}: 4 images\n"), err
        with open(here / f"rows.{kind}", encoding="utf-8", newline="") as file:
            rows = list(rows_of(file))
        for row, document in zip(rows, documents, strict=True):
            first, second = document["predictions"]
            assert row["file"] == document["image"]
            assert (row["predicted"], row["predicted_2"]) == (first["class"], second["class"])
            assert float(row["probability"]) == pytest.approx(first["probability"], abs=1e-6)


def test_numbers_that_json_lacks(capsys):
    print_json({"loss": float("nan"), "all": (1.5, float("inf"))})
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {
        "loss": None,
        "all": [1.5, None],
    }
