"""python -m minialex.bench.gpu.child REQUEST: one part of the suite, in a process of its own.

REQUEST is a JSON file: the part's name, the plan, earlier results, the file for the result, and the
seconds after which the process ends and prints where each thread was. The file is replaced after
each row: a part that hangs or is killed leaves the rows before.
"""

import faulthandler
import importlib
import json
import sys
from pathlib import Path

from minialex.bench.gpu import one_part
from minialex.bench.gpu.plan import Plan


def main() -> None:
    """Read the request, prepare, and run."""
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    # in a thread of its own without the GIL; also if the suite has been killed
    faulthandler.dump_traceback_later(request["seconds"], exit=True)
    if request["prepare"]:  # of tests: "module:function"
        module, _, function = request["prepare"].partition(":")
        getattr(importlib.import_module(module), function)(request["name"])
    one_part.run(request["name"], Plan.of(request["plan"]), request["found"], Path(request["out"]))


if __name__ == "__main__":
    main()
