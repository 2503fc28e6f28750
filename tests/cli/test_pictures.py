"""`neighbors`, `kernels` and several networks at once, from the command line."""

import errno
import json

import numpy as np
import pytest
from helpers.cli_tools import photos

import minialex
from minialex.cli import images
from minialex.data.decode import images as decode
from minialex.inference import neighbors
from minialex.inference.ensemble import Ensemble
from minialex.utils import checkpoint


@pytest.fixture
def other(here):
    """Weights of another network with the same classes: the run's, with noise."""
    path = here / "other.safetensors"
    if not path.exists():
        tensors, metadata = checkpoint.load(here / "runs" / "tiny" / "best.safetensors")
        rng = np.random.default_rng(0)
        noise = rng.normal(size=tensors["fc8.weight"].shape)
        tensors["fc8.weight"] += noise.astype(np.float32)
        checkpoint.save(path, tensors, metadata)
    return path


@pytest.fixture
def pets(here):
    if not (here / "animals").exists():
        photos(here / "animals", 3)
    return "animals"


def test_several_networks_are_evaluated_as_an_ensemble(here, command, other):
    files = f"--model-file runs/tiny --model-file {other.name}"
    code, output, err = command(f"evaluate {files} --weights 1,3 --crops both --json")
    assert code == 0, err
    one, ten = json.loads(output)
    members = tuple(map(minialex.load, ("runs/tiny", other)))
    wanted = Ensemble(members, (1.0, 3.0)).evaluate()
    assert one["loss"] == pytest.approx(wanted.loss)
    assert "mean of 2 networks, weights 0.25, 0.75" in one["recipe_line"]
    assert (one["crops"], ten["crops"]) == (1, 10)
    code, output, err = command(f"evaluate {files} --find-weights shapes:80 --data shapes:80")
    assert code == 0, err
    assert "mean of 2 networks" in output
    assert "weights found on 20 images" in output
    assert "the weights were found on 20 of these 20 images" in output


def test_several_networks_predict_as_an_ensemble(here, command, other):
    files = f"--model-file runs/tiny --model-file {other.name}"
    code, output, err = command(f"predict photo.jpg {files} --json --top 12")
    assert code == 0, err
    [document] = json.loads(output)
    found = {p["class"]: p["probability"] for p in document["predictions"]}
    members = [minialex.load(path) for path in ("runs/tiny", other)]
    mean = np.mean([member.probabilities("photo.jpg")[0] for member in members], axis=0)
    for name, p in zip(members[0].class_names, mean, strict=True):
        assert found[name] == pytest.approx(p)


def test_neighbors_are_the_nearest_by_features(here, command, pets):
    line = f"neighbors {pets}/cat/0.jpg --in {pets} --model-file runs/tiny"
    code, output, err = command(f"{line} --json --count 3")
    assert code == 0, err
    [document] = json.loads(output)
    names = [n["image"] for n in document["neighbors"]]
    assert len(names) == 3
    assert f"{pets}/cat/0.jpg" not in names  # the query itself is not listed
    classifier = minialex.load("runs/tiny")
    files = [f"{pets}/{kind}/{i}.jpg" for kind in ("cat", "dog") for i in range(3)]
    features = classifier.features(files).astype(float)
    wanted = {f: np.linalg.norm(features[0] - x) for f, x in zip(files, features, strict=True)}
    assert names == sorted(files[1:], key=wanted.get)[:3]
    for near in document["neighbors"]:
        assert near["distance"] == pytest.approx(wanted[near["image"]], rel=1e-4)
    code, output, _ = command(f"{line} --by pixels")
    assert code == 0
    assert len(output.splitlines()) == 1 + 5


def test_the_answer_for_a_query_does_not_depend_on_the_others(here, command, pets):
    line = f"--in {pets} --by pixels --json --model-file runs/tiny"
    code, together, err = command(f"neighbors {pets} {line} --figure near.png")
    assert code == 0, err
    for document in json.loads(together):
        alone = command(f"neighbors {document['image']} {line}")[1]
        assert json.loads(alone) == [document]


def test_an_index_is_built_once_and_gives_the_same_neighbors(here, command, refused, pets, other):
    line = f"neighbors photo.jpg --in {pets} --index seen.npz --figure near.svg --model-file"
    first = command(f"{line} runs/tiny")
    assert first[0] == 0, first
    before = (here / "seen.npz").stat().st_mtime_ns
    (here / "near.svg").unlink()
    assert command(f"{line} runs/tiny")[1] == first[1]
    assert (here / "seen.npz").stat().st_mtime_ns == before
    assert "<svg" in (here / "near.svg").read_text()
    assert "another network" in refused(f"{line} {other.name}")
    photos(here / pets, 4)
    assert "built from other files" in refused(f"{line} runs/tiny")


def test_many_queries_are_processed_in_parts(here, command, pets, monkeypatch):
    line = f"neighbors shapes:6 --in {pets} --count 2 --model-file runs/tiny"
    held, whole = [], command(line)
    nearest = neighbors.Nearest

    def counted(queries, *more):
        held.append(len(queries))
        return nearest(queries, *more)

    monkeypatch.setattr(images, "_BATCH", 2)
    monkeypatch.setattr(neighbors, "Nearest", counted)
    monkeypatch.setattr("minialex.cli.neighbors._QUERY_BYTES", 0)
    for more in ("", "--index parts.npz", "--index parts.npz", "--figure n.svg"):
        code, output, err = command(f"{line} {more}")
        assert (code, held) == (0, [2, 2, 2]), err
        assert output == whole[1] + "picture: n.svg\n" * ("figure" in more)
        held.clear()
    monkeypatch.setattr("minialex.cli.neighbors._MOST_DRAWN", 5)
    code, _, err = command(f"{line} --figure n.svg")
    assert code == 2
    assert "at most 5, but 6 were given" in err


def test_no_index_is_written_after_drive_errors(here, command, pets, monkeypatch):
    failing = {f"{pets}/dog/1.jpg"}
    opened = decode.open_file

    def unreliable(path):
        if str(path) in failing:
            raise OSError(errno.EIO, "Input/output error", str(path))
        return opened(path)

    monkeypatch.setattr(decode, "open_file", unreliable)
    monkeypatch.setattr("minialex.data.loading.retry.PAUSES", ())
    line = f"neighbors photo.jpg --in {pets} --index drive.npz --model-file runs/tiny"
    code, _, err = command(line)
    assert code == 1
    assert "drive.npz was not written: the drive failed" in err
    failing.clear()
    code, output, _ = command(line)
    assert code == 0
    assert len(output.splitlines()) == 1 + 6
    assert (here / "drive.npz").exists()


def test_kernels_are_drawn_and_measured(here, command):
    code, output, err = command("kernels runs/tiny --out kernels.png")
    assert code == 0, err
    assert "50% = no difference" in output
    assert (here / "kernels.png").stat().st_size > 1000
    code, output, _ = command("kernels runs/tiny --json")
    document = json.loads(output)
    assert [tower["kernels"] for tower in document["towers"]] == [32, 32]
    assert len(document["shares"]) == 64
    code, output, _ = command("kernels runs/tiny --towers 1 --json")
    assert json.loads(output)["separation"] is None
