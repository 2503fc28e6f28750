"""The command line: one file per subcommand.

Each file's docstring starts with the command's help line; EXAMPLES are command lines that work as
printed; `add_arguments(parser)` declares the options; `run(**arguments)` calls the library and
prints. The library is imported in `run` only, so that `minialex --help` is immediate.
"""
