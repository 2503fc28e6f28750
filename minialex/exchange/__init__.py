"""Weights of other programs: `read` takes a file of theirs, `write` makes one.

A format is a module of `formats/`; what it reads and what it writes is a `PortableModel`.
"""
