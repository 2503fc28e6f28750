"""The formats of weight files, one a module; see `format.py`."""
