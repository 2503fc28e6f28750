"""Readable class names: the words of WordNet's synsets."""

import pytest

from minialex.data.sources.names import read_names, short_names, wordnet_words
from minialex.errors import InputError


def test_every_ilsvrc_class_has_a_name():
    words = wordnet_words()
    assert len(words) == 1000
    assert list(words) == sorted(words)
    assert words["n02102040"] == "English springer, English springer spaniel"
    assert len(set(short_names(tuple(words), words))) == 1000


@pytest.mark.parametrize(
    ("class_ids", "names"),
    [
        (("n02102040", "n01440764"), ("English springer", "tench")),
        (("n02012849", "n03126707"), ("crane (n02012849)", "crane (n03126707)")),
        (("n02102040", "n99999999"), ("English springer", "n99999999")),
        (("n02102040", "cat"), ("n02102040", "cat")),
        ((), ()),
    ],
)
def test_names_are_used_if_all_classes_are_synsets(tmp_path, class_ids, names):
    assert read_names(tmp_path, class_ids) == names


def test_a_list_beside_the_images_comes_first(tmp_path):
    (tmp_path / "words.txt").write_text("n02102040 my dog\n")
    assert read_names(tmp_path, ("n02102040", "n01440764")) == ("my dog", "n01440764")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_list_may_be_saved_by_a_windows_editor(tmp_path, encoding):
    (tmp_path / "words.txt").write_text("a my cät\nb my dog\n", encoding=encoding)
    assert read_names(tmp_path, ("a", "b")) == ("my cät", "my dog")


def test_a_list_in_another_encoding_is_refused(tmp_path):
    (tmp_path / "words.txt").write_text("a my cät\n", encoding="cp1252")
    with pytest.raises(InputError, match=r"words\.txt is not in UTF-8 \(line 1\)"):
        read_names(tmp_path, ("a",))
