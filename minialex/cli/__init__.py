"""The subcommands, a file each.

The docstring's first line is the help, EXAMPLES are command lines that work as printed,
`add_arguments(parser)` declares, and `run(**arguments)` calls the library and prints. Each imports
the library only when it runs, so that `minialex --help` is immediate.
"""
