"""The page: numbers as on disk, self-contained, no errors in a browser."""

import csv
import os
import re
import shutil
import subprocess

import pytest
from helpers.html import Balanced
from PIL import Image

from minialex.experiments import (
    Claim,
    Difference,
    Measured,
    Options,
    Ratio,
    Table,
    measured,
    paired,
    runner,
)
from minialex.experiments.report.table_csv import table_csv
from minialex.experiments.report.text import value_text

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture
def page(quick, tmp_path):
    path, _ = runner.reproduce(
        [], Options(scale="tiny", seeds=3), tmp_path / "out", lambda text: None
    )
    return path


def test_numbers_are_shown_with_their_deviation(page):
    """By hand: differences 2.0, 2.1, 2.2; t(0.975, 2) = 4.303; 4.303 x 0.1 / √3 = 0.248."""
    content = page.read_text()
    assert "+2.1 [+1.9, +2.3]. agrees with the paper." in content
    rows = list(csv.reader((page.parent / "quick" / "numbers.csv").open()))
    assert rows[0][:4] == ["name", "error mean", "error standard deviation", "error runs"]
    found = [float(value) for value in rows[2][4:]]
    assert found == pytest.approx([2.1, 0.1, 3, 2.1 - 0.2484, 2.1 + 0.2484], abs=1e-3)
    assert rows[1][4:] == [""] * 5


def test_the_page_is_self_contained(page):
    content = page.read_text()
    outside = re.findall(r'(?:src|href|action)="(?!#|data:)([^"]*)"', content)
    assert outside == []
    assert "<script" not in content
    assert "@import" not in content
    assert "prefers-color-scheme: dark" in content
    assert "Quick &amp; &lt;odd&gt;" in content


def test_tags_are_closed_and_ids_are_unique(page):
    parser = Balanced()
    parser.feed(page.read_text())
    assert parser.open == []
    assert len(parser.ids) == len(set(parser.ids))


def test_tables_and_figures_are_accessible(page):
    content = page.read_text()
    assert 'aria-label="A line that rises"' in content
    assert content.count("<caption>") == content.count("<table>")
    assert '<th scope="col"' in content
    assert '<th scope="row">' in content


def test_pictures_are_beside_the_page(page):
    with Image.open(page.parent / "quick" / "line.png") as image:
        assert min(image.size) > 200


def test_a_figure_uses_the_pages_text_colour(page):
    [drawing] = re.findall(r"<svg.*?</svg>", page.read_text(), flags=re.S)
    assert "currentColor" in drawing
    assert "#000000" not in drawing
    assert "#ffffff" not in drawing


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ((1.0, 1.2, 1.1), "agrees with the paper"),
        ((1.0, -1.2, 0.1), "inconclusive, the interval includes 0"),
        ((-1.0, -1.2, -1.1), "opposite of the paper"),
        ((1.0, 1.0), "inconclusive, the seeds do not differ"),
        ((0.0, 0.0), "inconclusive, the interval includes 0"),
        ((1.0, float("nan"), 1.1), "inconclusive, a result is not finite"),
        ((1.0,), "one seed, so no interval"),
    ],
)
def test_a_verdict_follows_from_the_interval(values, sentence):
    assert Difference(values).verdict() == sentence
    swapped = {"agrees with the paper": "below", "opposite of the paper": "above"}
    minus = Difference(tuple(-value for value in values))
    assert minus.verdict_below() == sentence
    assert minus.verdict("above", "below") == swapped.get(sentence, sentence)


def test_a_ratio_is_compared_with_one():
    """By hand: mean 6, deviation 1, t(0.975, 2) = 4.303; 4.303 x 1 / √3 = 2.484."""
    ratio = Ratio((5.0, 6.0, 7.0))
    assert ratio.text() == "6.0 [3.5, 8.5]"
    assert ratio.sign == 1
    assert Ratio((0.5, 0.6, 0.55)).sign == -1
    assert Ratio((0.9, 1.0, 1.2)).sign == 0


@pytest.mark.parametrize(
    ("found", "verdict", "below"),
    [
        (Difference((1.0, 1.2, 1.1)), "shown", "the opposite"),
        (Difference((-1.0, -1.2, -1.1)), "the opposite", "shown"),
        (Difference((1.0, -1.2, 0.1)), "inconclusive", "inconclusive"),
        (Ratio((5.0, 6.0, 7.0)), "shown", "the opposite"),
        (Ratio((0.5, 0.6, 0.55)), "the opposite", "shown"),
        (Difference((1.0,)), "no interval", "no interval"),
        (None, "not measured", "not measured"),
    ],
)
def test_a_claim_is_shown_only_by_the_whole_interval(found, verdict, below):
    assert Claim("", None, found).verdict == verdict
    assert Claim("", None, found, -1).verdict == below


def test_the_claims_open_the_report(page):
    """Differences as above: 2.0, 2.1, 2.2."""
    content = page.read_text()
    first = content.index("The part costs")
    assert content.index("</nav>") < first < content.index("<section")
    header, costs, gains, forgotten = csv.reader((page.parent / "claims.csv").open())
    assert header[:3] == ["claim", "published", "here mean"]
    assert [row[-1] for row in (costs, gains, forgotten)] == [
        *("shown", "the opposite", "not measured")
    ]
    assert float(costs[2]) == pytest.approx(2.1)
    assert (costs[-2], forgotten[-2]) == ("3", "0")
    text = page.with_suffix(".md").read_text()
    shown = "| The part costs | more than +1.0 | +2.1 [+1.9, +2.3] | 3 | shown |"
    assert text.index(shown) < text.index("## Quick")


def test_differences_are_paired_by_seed():
    assert paired({0: 5.0, 2: 7.0}, {0: 4.0, 1: 1.0, 2: 9.0}).values == (1.0, -2.0)
    assert paired({0: 5.0}, {1: 4.0}) is None
    assert measured({}) is None


def test_values_are_formatted():
    of_seeds = Measured((1.0, 2.0))
    shown = [value_text(v) for v in (None, -1.25, 12345, "word", of_seeds, Measured((3.0,)))]
    assert shown == ["–", "−1.2", "12,345", "word", "1.5 ± 0.7", "3.0"]
    assert [value_text(v, 2) for v in (-1.254, 7, of_seeds)] == ["−1.25", "7", "1.50 ± 0.71"]
    assert table_csv(Table("t", "", ("a", "b"), [])) == "a,b\n"


@pytest.mark.skipif(BROWSER is None, reason="there is no chromium on this machine")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it_without_errors(page, tmp_path, scheme):
    picture = tmp_path / f"{scheme}.png"
    quiet = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
        "--disable-background-networking --disable-component-update --hide-scrollbars "
        "--window-size=900,1200 --enable-logging=stderr --v=0"
    )
    # 0 is dark and 1 light in Blink's PreferredColorScheme
    dark = f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}"
    line = [BROWSER, *quiet.split(), dark, f"--user-data-dir={tmp_path / 'profile'}"]
    ended = subprocess.run(
        [*line, f"--screenshot={picture}", page.as_uri()],
        capture_output=True,
        timeout=120,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    assert "CONSOLE" not in ended.stderr.decode(errors="replace")
    with Image.open(picture) as image:
        grey = image.convert("L")
        corner, darkest, lightest = grey.getpixel((2, 2)), *grey.getextrema()
    assert (corner < 60) == (scheme == "dark")
    assert lightest - darkest > 150
    # a figure with its own background would be a large patch on the page
    against = sum(grey.histogram()[200:] if scheme == "dark" else grey.histogram()[:60])
    assert against < 0.1 * 900 * 1200


def test_the_report_is_also_written_as_markdown(quick, tmp_path):
    path, _ = runner.reproduce(
        [], Options(scale="tiny", seeds=2), tmp_path / "out", lambda text: None
    )
    text = path.with_suffix(".md").read_text()
    rows = [line for line in text[text.index("## ") :].splitlines() if line.startswith("| ")]
    assert rows[:2] == ["| name | error | difference |", "| --- | --- | --- |"]
    assert [row.split(" | ")[0] for row in rows[2:]] == ["| whole", "| part"]
    assert "![A line that rises](quick/line.png)" in text
    assert (path.parent / "quick" / "line.png").exists()
