"""Defines every op with functions of the Python array API standard only.

There is one file per op family, named as in `reference/`, which has the same ops as plain loops.
"""
