"""Bring a report of `minialex reproduce` into docs/paper.md, below what is written there by hand.

    python docs/paper.py runs/paper

Photographs stay out, as their owners may not allow others to pass them on; so do the times, which
say little about work that was stopped and gone on with.
"""

import re
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
MARK = "What follows is the report that the command wrote, without its photographs.\n"

# Figures without photographs; the others are left out.
FIGURES = (
    "relu-and-tanh/curves.png",
    "ablations/differences.png",
    "tables/ensemble.png",
    "two-stream/streams.png",
    "vgg/losses.png",
    "pictures/kernels-two-towers-trained-longer-0.png",
    "pictures/kernels-one-tower-trained-longer-0.png",
    "pictures/timeline.png",
)
_FIGURE = re.compile(r"!\[(.*?)\]\((\S+?\.png)\)\n\n(.*?)\n\n")


def main(report: Path) -> None:
    """Write docs/paper.md and docs/paper/*.png anew."""
    page, pictures = HERE / "paper.md", HERE / "paper"
    written, mark, _ = page.read_text(encoding="utf-8").partition(MARK)
    if not mark:
        raise SystemExit(f"{page} has no line {MARK.strip()!r}")

    def figure(found: re.Match) -> str:
        about, name, caption = found.groups()
        if name not in FIGURES:
            return ""
        copy = pictures / name.replace("/", "-")
        shutil.copyfile(report / name, copy)
        return f"![{about}](paper/{copy.name})\n\n{caption}\n\n"

    shutil.rmtree(pictures, ignore_errors=True)
    pictures.mkdir()
    _, _, body = (report / "report.md").read_text(encoding="utf-8").partition("\n")
    body = re.sub(r"\nTook .*? in all\.\n", "\n", _FIGURE.sub(figure, body))
    page.write_text(f"{written}{MARK}{body.rstrip()}\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
