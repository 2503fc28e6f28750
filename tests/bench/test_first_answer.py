"""The times of `predict` and of the live page's first answer are taken on real processes."""

import io
from contextlib import nullcontext

import numpy as np
import pytest
from PIL import Image

from minialex.bench import first_answer


def test_the_start_of_predict_is_timed(tmp_path, capfd):
    path, photo = tmp_path / "net.safetensors", tmp_path / "photo.png"
    first_answer.write_untrained(path, "cifar10", 10)
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(photo)
    assert 0 < first_answer.predict(path, photo, "--backend", "numpy") < 60
    photo.write_bytes(b"no image")
    with pytest.raises(SystemExit, match="predict has failed"):
        first_answer.predict(path, photo, "--backend", "numpy")


def test_answers_are_timed(tmp_path, monkeypatch):
    pytest.importorskip("starlette", reason="starlette is not installed (extra `show`)")
    pytest.importorskip("uvicorn", reason="uvicorn is not installed (extra `show`)")
    path, sent = tmp_path / "net.safetensors", []
    first_answer.write_untrained(path, "cifar10", 10)
    file = io.BytesIO()
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(file, "JPEG")
    asked = first_answer.answer

    def noted(connection, photograph):
        sent.append(photograph)
        return asked(connection, photograph)

    monkeypatch.setattr(first_answer, "answer", noted)
    with first_answer.served(path, "--backend", "numpy") as connection:
        monkeypatch.setattr(first_answer, "served", lambda path: nullcontext(connection))
        found = first_answer.times(path, file.getvalue(), 2)
        assert len(found) == 3
        assert min(found) > 0
        assert len(set(sent)) == 3  # none is answered from memory
        with pytest.raises(SystemExit, match="is not an image"):
            first_answer.times(path, b"no image", 0)


def test_the_median_leaves_the_first_out():
    assert first_answer.text([9.0, 0.2, 0.3, 0.4]) == (
        "first answer after 9.00 s; 3 more: median 0.30 s, slowest 0.40 s"
    )
