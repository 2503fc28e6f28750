import pytest

from minialex.data.sources.open import open_data, open_for_evaluation
from minialex.errors import InputError


def test_the_built_in_images_are_the_default():
    for data in (None, "shapes"):
        splits = open_data(data, seed=5)
        assert (len(splits.train), len(splits.val)) == (2400, 600)
        assert "seed 5" in splits.train.layout
    splits = open_data("shapes:480")
    assert (len(splits.train), len(splits.val)) == (480, 120)


@pytest.mark.parametrize("data", ["shapes:", "shapes:many", "shapes:-5"])
def test_the_number_of_shapes_must_be_valid(data):
    with pytest.raises(InputError, match="'shapes:N'"):
        open_data(data)


def test_a_folder_called_shapes_is_ambiguous(photos, monkeypatch):
    monkeypatch.chdir(photos.parent)
    photos.rename(photos.parent / "shapes")
    assert len(open_data("./shapes").train) == 10


@pytest.mark.parametrize(
    ("typo", "meant"),
    [("photo", "photos"), ("photos/tarin", "photos/train"), ("phtos/x", "photos")],
)
def test_a_typo_gets_the_nearest_name(photos, typo, meant):
    with pytest.raises(FileNotFoundError) as caught:
        open_data(photos.parent / typo)
    message = str(caught.value)
    assert str(photos.parent / typo) in message
    assert f"did you mean {str(photos.parent / meant)!r}?" in message


def test_a_path_without_a_near_name():
    with pytest.raises(FileNotFoundError, match="check the path"):
        open_data("/qqqqqqq/zzzz")


def test_a_name_has_one_meaning(tmp_path, photos, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert len(open_data("shapes").train) == 2400
    (tmp_path / "shapes").symlink_to(photos)
    for opened in (open_data, open_for_evaluation):
        with pytest.raises(InputError, match=r"write \./shapes for the folder, shapes:2400 for"):
            opened("shapes")
    assert open_data("./shapes").train.class_ids == ("cat", "dog")
    assert len(open_data("shapes:2400").train) == len(open_data().train) == 2400
    with pytest.raises(InputError, match="empty name"):
        open_data("")


def test_a_file_is_refused_as_a_folder(tmp_path):
    (tmp_path / "data.tar").write_bytes(b"")
    with pytest.raises(InputError, match="is a file: give a folder"):
        open_data(tmp_path / "data.tar")


def test_evaluation_uses_the_validation_part_or_all_images(photos):
    part = open_for_evaluation(photos)
    assert (len(part), part.class_ids) == (4, ("cat", "dog"))
    assert part.describe(0) == str(photos / "val" / "cat" / "0.JPEG")
    assert len(open_for_evaluation(photos / "train")) == 10
    assert len(open_for_evaluation("shapes:48")) == 12
