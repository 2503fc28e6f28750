"""Tables in plain text, in Markdown and in HTML."""

from minialex.utils import table


def test_columns_are_as_wide_as_their_widest_cell():
    rows = [("conv1", "34,944"), ("a", "7")]
    lines = table.plain(("layer", "n"), rows, "<>").splitlines()
    assert lines == ["layer       n", "conv1  34,944", "a           7"]
    assert table.plain(("a", "b"), [("x", "")], gap=1) == "a b\nx"


def test_bars_within_markdown_cells_are_escaped():
    assert table.markdown(("a", "b"), [("x|y", "1")]) == "| a | b |\n| --- | --- |\n| x\\|y | 1 |"


def test_html_of_names_with_brackets():
    found = table.html(("a",), [("<b>",)])
    assert found == "<table><tr><th>a</th></tr><tr><td>&lt;b&gt;</td></tr></table>"
    assert table.html((), [("1",)]) == "<table><tr><td>1</td></tr></table>"
