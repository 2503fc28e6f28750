"""Copy a report of `minialex reproduce` into docs/paper.md, section by section.

    python docs/paper.py runs/paper

Each section of the report replaces the page's section with the same heading, or comes last. What is
above the first section is written by hand. Photographs are left out, as their licences may not
allow publishing them; so are the times, which mean little for runs that were stopped and resumed.
"""

import re
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent

# The figures to copy: those without photographs.
FIGURES = (
    "relu-and-tanh/curves.png",
    "ablations/differences.png",
    "tables/ensemble.png",
    "training-images/training-images.png",
    "two-stream/streams.png",
    "vgg/losses.png",
    "pictures/kernels-two-towers-0.png",
    "pictures/kernels-one-tower-0.png",
    "pictures/timeline.png",
)
_FIGURE = re.compile(r"!\[(.*?)\]\((\S+?\.png)\)\n\n(.*?)\n\n")


def main(report: Path) -> None:
    """Rewrite the report's sections of docs/paper.md, and their figures in docs/paper."""
    page = HERE / "paper.md"
    head, sections = _sections(page.read_text(encoding="utf-8"))
    above, new = _sections((report / "report.md").read_text(encoding="utf-8"))
    scale = next(line for line in above.splitlines() if line.startswith("Scale: "))
    for heading, body in new.items():
        body = re.sub(r"\nComputed in .*?\.\n", "\n", _without_photographs(report, body))
        own = "" if scale in head else f"\n{scale}\n"  # the page's head says what most have
        sections[heading] = f"{own}{body.rstrip()}\n\n\n"
    text = head + "".join(f"## {heading}\n{body}" for heading, body in sections.items())
    page.write_text(f"{text.rstrip()}\n", encoding="utf-8")


def _sections(text: str) -> tuple[str, dict[str, str]]:
    """What is above the first heading, and {heading: what is below it}."""
    head, *rest = re.split(r"^## (.*)\n", text, flags=re.MULTILINE)
    return head, dict(zip(rest[::2], rest[1::2], strict=True))


def _without_photographs(report: Path, body: str) -> str:
    """The section with links to copies of its figures, those without photographs."""

    def figure(found: re.Match) -> str:
        about, name, caption = found.groups()
        if name not in FIGURES:
            return ""
        copy = HERE / "paper" / name.replace("/", "-")
        shutil.copyfile(report / name, copy)
        return f"![{about}](paper/{copy.name})\n\n{caption}\n\n"

    return _FIGURE.sub(figure, body)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
