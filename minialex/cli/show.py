"""open a local page that shows a trained network at work"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from minialex.cli.common import add_device_options, add_own_model, at_least, newest_run
from minialex.errors import InputError
from minialex.utils.paths import expanded

if TYPE_CHECKING:
    from minialex.parallel import DeviceConfig

EXAMPLES = (
    "minialex show runs/shapes",
    "minialex show runs/shapes runs/tuned --port 8099",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_own_model(parser)
    parser.add_argument(
        "runs",
        nargs="*",
        type=expanded,
        metavar="RUN",
        help="run folder, weight file or kept weights; two are shown side by side (default: the "
        "newest run in runs/)",
    )
    parser.add_argument(
        "--data",
        metavar="DATA",
        help="images to search (default: the validation images of each run)",
    )
    parser.add_argument(
        "--port",
        type=at_least(0),
        default=8012,
        metavar="N",
        help="port on 127.0.0.1; 0: any free port (default: 8012)",
    )
    add_device_options(parser)


def run(runs: list[Path], data: str | None, port: int, device_config: "DeviceConfig") -> None:
    if len(runs) > 2:
        raise InputError(f"{len(runs)} runs were given: at most two are shown side by side")
    if port > 65535:
        raise InputError(f"--port {port}: the largest port is 65535")
    require_packages()
    from minialex.inference.classifier import is_foreign
    from minialex.show import server
    from minialex.show.page import Page
    from minialex.show.runs import Run
    from minialex.utils import weight_names

    found = []
    for path in runs or [newest_run(Path("runs"))]:
        located = weight_names.located(path)
        if not is_foreign(located) and not located.exists():
            raise weight_names.missing(located)
        found.append(Run(located, device_config, data))
    server.serve(Page(found), port)


def require_packages() -> None:
    """Raise InputError if the extra `show` is not installed."""
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"`minialex show` needs {error.name}: pip install 'minialex[show]', or write one page "
            "with `minialex explain`"
        ) from None
