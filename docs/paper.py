"""Copy a report of `minialex reproduce` into docs/paper.md, below the hand-written part.

    python docs/paper.py runs/paper

Photographs are left out, as their licences may not allow publishing them; so are the times, which
mean little for runs that were stopped and resumed.
"""

import re
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
MARK = "What follows is the report that the command wrote, without its photographs.\n"

# The figures to copy: those without photographs.
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
    """Rewrite docs/paper.md and docs/paper/*.png."""
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
    body = re.sub(r"\nComputed in .*?\.\n", "\n", _FIGURE.sub(figure, body))
    page.write_text(f"{written}{MARK}{body.rstrip()}\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
