"""Weight files of other frameworks: `read` imports one, `write` exports one.

A format is a module of `formats/`; it reads and writes a `PortableModel`.
"""
