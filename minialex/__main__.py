"""`python -m minialex` is `minialex`."""

import sys

from minialex.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
