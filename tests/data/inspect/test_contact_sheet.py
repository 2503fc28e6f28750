import numpy as np
import pytest
from PIL import Image

from minialex.data.inspect import contact_sheet as module
from minialex.data.inspect.contact_sheet import SIDE, TEXT, contact_sheet


def test_a_contact_sheet_shows_images_by_class(photos, photo):
    for name, colour in (("cat", "red"), ("dog", "blue")):
        for path in (photos / "train" / name).iterdir():
            Image.new("RGB", (40, 40), colour).save(path)
    (photos / "train" / "dog" / "2.JPEG").write_bytes(b"no photograph")
    sheet = np.asarray(contact_sheet(photos))
    assert sheet.shape == (2 * 100, 220 + 8 * 100, 3)
    for row, channel in ((0, 0), (1, 2)):
        tile = sheet[row * 100 + 48, 220 + 48]
        assert tile[channel] > 250
        assert tile.sum() < 270
    assert (sheet[148, 220 + 200 + 90] == 255).all()  # the unreadable one is an outline
    assert (sheet[48, 220 + 700] == 255).all()  # and there are no more than five


@pytest.mark.parametrize("alphabets", [True, False])
def test_a_contact_sheet_writes_class_names(photos, alphabets, monkeypatch):
    """Not as escapes, which are several times as long; without accents if the font has none."""
    if not alphabets:
        monkeypatch.setattr(module, "find_spec", lambda name: None)
    plain = np.asarray(contact_sheet(photos))
    for part in ("train", "val"):
        (photos / part / "cat").rename(photos / part / "cät")
    sheet = np.asarray(contact_sheet(photos))
    ink = [(255 - s[:SIDE, :TEXT].astype(int)).sum() for s in (plain, sheet)]
    assert 1 <= ink[1] / ink[0] < 1.5
    assert module._in_ascii("Hüte 靴") == "Hute ?"
