"""Weight files of other frameworks: `read` imports one, `write` exports one.

A format is a module of `formats/`; what it reads and what it writes is a `PortableModel`.
"""
