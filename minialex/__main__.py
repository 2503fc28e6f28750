"""Lets `python -m minialex` run the `minialex` command."""

import sys

from minialex.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
