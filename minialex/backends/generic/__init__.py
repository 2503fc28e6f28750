"""What each op means, in functions of the Python array API standard only.

One file an op family, with the same names as in `reference/`, where the same ops are plain loops.
"""
